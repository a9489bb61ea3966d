"""The route of a deployment behind a Gateway: an `HTTPRoute`, and what its controller says of it.

Only /v1 is let in: vLLM's API key guards no other path (`serving_lint.py`).
"""

from collections.abc import Iterable
from typing import Final

from tunesmith_api.modeldeployment.spec import Gateway, ModelDeploymentSpec
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.adapter_list import REVISION_HEADER
from tunesmith_engine.deployment.observations import Route, RouteState
from tunesmith_operator.kube.objects import Manifest, quoted, status_of
from tunesmith_operator.kube.resources import GATEWAY, HTTP_ROUTE
from tunesmith_operator.modeldeployment.deployment_ref import DeploymentRef
from tunesmith_operator.modeldeployment.serving_pod import PORT

PUBLIC_PATH: Final = "/v1"
_ALL: Final = 100
# Gateway API's own limit.
_MAX_BACKENDS: Final = 16
_MAX_QUOTE: Final = 120
_HTTP_PORT: Final = 80
_HTTPS_PORT: Final = 443


def http_route(
    owner: DeploymentRef,
    spec: ModelDeploymentSpec,
    route: Route,
    *,
    standby: Iterable[str] = (),
) -> Manifest:
    """The HTTPRoute that splits and mirrors as `route` says; `spec.gateway` is set.

    `standby` are revisions that are there and get nothing, as those that will, and those that did;
    those that matter most come first.
    """
    gateway = spec.gateway
    if gateway is None:
        raise ValueError("without spec.gateway there is nothing to hang a route to")
    # Written out as the server fills it in, so that the stored route can be compared.
    parent = {
        "group": GATEWAY.group,
        "kind": GATEWAY.kind,
        "name": gateway.name,
        "namespace": gateway.namespace or owner.namespace,
        **({"sectionName": gateway.section_name} if gateway.section_name else {}),
    }
    # NB: Envoy learns routes and clusters by separate streams. A route that names a backend with
    # its first request, or drops it with its last one, is 503 (NC) until both have come.
    idle = [revision for revision in standby if revision not in route.weights]
    weights = {**route.weights, **dict.fromkeys(idle[: _MAX_BACKENDS - len(route.weights)], 0)}
    rule: Manifest = {
        "matches": [{"path": {"type": "PathPrefix", "value": PUBLIC_PATH}}],
        "backendRefs": [
            {
                **_backend(owner, revision),
                "weight": weight,
                **({"filters": [_choice(revision)]} if spec.adapters else {}),
            }
            for revision, weight in sorted(weights.items())
        ],
        # An answer takes as long as it takes: proxies cut off after seconds by themselves.
        "timeouts": {"request": "0s"},
    }
    if route.mirror is not None:
        mirror = {"backendRef": _backend(owner, route.mirror), "percent": route.mirror_percent}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": mirror}]
    return {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.kind,
        "metadata": owner.metadata(owner.name),
        "spec": {
            "parentRefs": [parent],
            **({"hostnames": list(gateway.hostnames)} if gateway.hostnames else {}),
            "rules": [rule],
        },
    }


def route_state(
    stored: Manifest | None,
    gateway: Manifest | None,
    *,
    owner: DeploymentRef,
    wanted: Gateway,
    mirror_percent: int = 0,
) -> RouteState:
    """What the Gateway's controller says of our route; `stored` is ours, or None without one.

    `mirror_percent` is what was asked to be copied.
    """
    endpoint = _endpoint(gateway, wanted) if gateway is not None else None
    if gateway is None:
        where = f"{wanted.namespace or owner.namespace}/{wanted.name}"
        message = f"there is no Gateway {where}; create it, or name another in spec.gateway"
        return RouteState(failure=str(Reason.NO_GATEWAY), message=message)
    if stored is None:
        # Nothing is routed, and that is certain.
        return RouteState(in_use=Route(), endpoint=endpoint)
    generation = stored["metadata"]["generation"]
    conditions = [
        condition
        for parent in status_of(stored).get("parents") or []
        if parent["parentRef"].get("name") == wanted.name
        for condition in parent.get("conditions") or []
        # Of an earlier route: the proxy may be on its way to this one.
        if condition.get("observedGeneration") == generation
    ]
    for condition in conditions:
        if condition["status"] == "False" and condition["type"] in {"Accepted", "ResolvedRefs"}:
            said = quoted(condition.get("message", ""), at_most=_MAX_QUOTE)
            message = f"the Gateway refuses HTTPRoute {owner.name} ({condition['reason']}: {said})"
            failure = str(Reason.ROUTE_NOT_ACCEPTED)
            return RouteState(failure=failure, message=message, endpoint=endpoint)
    route = _route_in(stored, owner)
    if route.mirror_percent == _ALL and 0 < mirror_percent < _ALL:
        message = (
            f"this cluster's Gateway API cannot mirror {mirror_percent} % of the requests, only "
            "all of them; install v1.3 or newer, or set rollout.strategy: canary"
        )
        failure = str(Reason.ROUTE_NOT_ACCEPTED)
        return RouteState(failure=failure, message=message, endpoint=endpoint)
    is_true = {condition["type"] for condition in conditions if condition["status"] == "True"}
    is_in_use = {"Accepted", "ResolvedRefs"} <= is_true
    return RouteState(
        in_use=route if is_in_use else None,
        message="" if is_in_use else "the Gateway's controller has not confirmed the route yet",
        endpoint=endpoint,
    )


def _choice(revision: str) -> Manifest:
    """The header by which a pod knows which of its adapters is meant; what clients send goes."""
    header = {"name": REVISION_HEADER, "value": revision}
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [header]}}


def _backend(owner: DeploymentRef, revision: str) -> Manifest:
    return {"group": "", "kind": "Service", "name": owner.name_of(revision), "port": PORT}


def _route_in(stored: Manifest, owner: DeploymentRef) -> Route:
    """What the stored route says, also where somebody has changed it; without who stands by."""

    def revision_of(backend: Manifest) -> str:
        return str(backend["name"]).removeprefix(f"{owner.name}-")

    weights: dict[str, int] = {}
    mirror, percent = None, 0
    for rule in stored["spec"].get("rules") or []:
        for backend in rule.get("backendRefs") or []:
            if weight := backend.get("weight", 1):
                weights[revision_of(backend)] = weight
        for entry in rule.get("filters") or []:
            if entry["type"] == "RequestMirror":
                asked = entry["requestMirror"]
                # A server with older definitions drops the percent, and mirrors everything.
                mirror, percent = revision_of(asked["backendRef"]), asked.get("percent", _ALL)
    return Route(weights, mirror, percent)


def _endpoint(gateway: Manifest, wanted: Gateway) -> str | None:
    """The base URL for clients: a host name of the route, else an address of the Gateway."""
    listeners = [
        listener
        for listener in gateway.get("spec", {}).get("listeners") or []
        if wanted.section_name in {None, listener["name"]}
    ]
    addresses = [entry["value"] for entry in status_of(gateway).get("addresses") or []]
    host = next(iter((*wanted.hostnames, *addresses)), None)
    if not listeners or host is None:
        return None
    # An encrypted one before one that is not.
    listener = min(listeners, key=lambda each: each["protocol"] != "HTTPS")
    is_https = listener["protocol"] == "HTTPS"
    port = listener["port"]
    shown = "" if port == (_HTTPS_PORT if is_https else _HTTP_PORT) else f":{port}"
    return f"{'https' if is_https else 'http'}://{host}{shown}{PUBLIC_PATH}"
