"""What Envoy reads: bootstrap, listener, clusters and routes, as plain records. Pure.

The bootstrap names one file each for clusters (CDS) and routes (RDS); Envoy takes a file up anew
when another one is renamed into its place. `version_info` of the routes is the route itself, as
JSON, so that what Envoy says to have in use can be read back.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tunesmith_api.modeldeployment.rollout import Sticky
from tunesmith_engine.deployment.observations import Route
from tunesmith_engine.deployment.request_identity import STICKY_HEADERS

Json = dict[str, Any]

HOST: Final = "127.0.0.1"
ROUTES: Final = "tunesmith"
# Where a deployment does not say.
STICKY: Final[Sticky] = "conversation"
# The copies of requests go to clusters of their own: else they would count as answers.
MIRROR_PREFIX: Final = "mirror-"

_TYPE: Final = "type.googleapis.com/envoy"
_HTTP_OPTIONS: Final = f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions"
# uvicorn closes connections that were idle for 5 s, and a request that meets the closing is lost.
_UPSTREAM_IDLE: Final = "4s"
# An answer may take long between two tokens of a slow machine, and without a stream as long as all
# of it takes.
_STREAM_IDLE: Final = "3600s"
# Of a request: room for some images in base64. It is held until it is whole, in the proxy's memory.
_MOST_BYTES: Final = 64 * 2**20
# Envoy's own bounds of 1,024 are for services that answer in milliseconds.
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a replica listens."""

    host: str
    port: int


Endpoints = Mapping[str, Sequence[Endpoint]]


def bootstrap(folder: Path, *, port: int, admin_port: int) -> Json:
    """Listen on `port` of the loopback interface; routes and clusters come from `folder`."""
    return {
        "node": {"id": "tunesmith", "cluster": "tunesmith"},
        "admin": {"address": _address(Endpoint(HOST, admin_port))},
        "dynamic_resources": {"cds_config": _from_file(clusters_file(folder))},
        "static_resources": {"listeners": [_listener(folder, port=port)]},
    }


def clusters_file(folder: Path) -> Path:
    """Where the clusters stand."""
    return folder / "clusters.json"


def routes_file(folder: Path) -> Path:
    """Where the routes stand."""
    return folder / "routes.json"


def clusters(endpoints: Endpoints) -> Json:
    """Two clusters for each revision: of its requests, and of copies."""
    resources = [
        _cluster(f"{prefix}{revision}", replicas)
        for revision, replicas in sorted(endpoints.items())
        for prefix in ("", MIRROR_PREFIX)
    ]
    version = json.dumps(
        {name: [[at.host, at.port] for at in replicas] for name, replicas in endpoints.items()},
        sort_keys=True,
    )
    return {"version_info": version, "resources": resources}


def routes(route: Route, *, sticky: Sticky = STICKY) -> Json:
    """Only /v1/ is exposed: all else of an engine's port is not for clients.

    NB: the order of `route.weights` is kept. A conversation is a point on a line from 0 to 100, and
    the first revision has the line's beginning: while its weight grows, conversations move to it
    and never back. So the candidate has to stand first.
    """
    return {
        "version_info": version_of(route),
        "resources": [
            {
                "@type": f"{_TYPE}.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                "virtual_hosts": [
                    {
                        "name": "models",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/v1/"}, **_action(route, sticky)}],
                    }
                ],
            }
        ],
    }


def version_of(route: Route) -> str:
    """The route as JSON, in the order of its weights."""
    return json.dumps(
        {"weights": route.weights, "mirror": route.mirror, "percent": route.mirror_percent}
    )


def route_in(version: str) -> Route | None:
    """The route that `version_of` wrote; None if it is somebody else's word."""
    try:
        known = json.loads(version)
        return Route(
            weights=known["weights"], mirror=known["mirror"], mirror_percent=known["percent"]
        )
    except (ValueError, LookupError, TypeError):
        return None


def _action(route: Route, sticky: Sticky) -> Json:
    if not route.weights:
        return {
            "direct_response": {
                "status": 503,
                "body": {"inline_string": '{"error": {"message": "no version is served yet"}}'},
            },
            "response_headers_to_add": [
                {"header": {"key": "content-type", "value": "application/json"}}
            ],
        }
    weighted: Json = {
        "clusters": [{"name": name, "weight": weight} for name, weight in route.weights.items()]
    }
    action: Json = {
        "weighted_clusters": weighted,
        "timeout": "0s",
        # A generation that has begun is never asked for twice: only what no replica has seen.
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset-before-request",
            "num_retries": 2,
        },
    }
    policy = [
        {"header": {"header_name": name}, "terminal": True} for name in STICKY_HEADERS[sticky]
    ]
    if policy:
        weighted["use_hash_policy"] = True
        action["hash_policy"] = policy
    if route.mirror is not None:
        fraction = {"numerator": route.mirror_percent, "denominator": "HUNDRED"}
        action["request_mirror_policies"] = [
            {
                "cluster": f"{MIRROR_PREFIX}{route.mirror}",
                "runtime_fraction": {"default_value": fraction},
            }
        ]
    return {"route": action}


def _listener(folder: Path, *, port: int) -> Json:
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "ingress",
        "codec_type": "AUTO",
        "rds": {"route_config_name": ROUTES, "config_source": _from_file(routes_file(folder))},
        "stream_idle_timeout": _STREAM_IDLE,
        # /v1/../metrics is /metrics.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        # With nothing in front of it, the address of a client is the one it connects from.
        "use_remote_address": True,
        "http_filters": [
            {
                "name": "envoy.filters.http.buffer",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.filters.http.buffer.v3.Buffer",
                    "max_request_bytes": _MOST_BYTES,
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"},
            },
        ],
        # Clients of OpenAI's API wait so long before they try again.
        "local_reply_config": {
            "mappers": [
                {
                    "filter": {
                        "status_code_filter": {
                            "comparison": {
                                "op": "EQ",
                                "value": {"default_value": 503, "runtime_key": "unused"},
                            }
                        }
                    },
                    "headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
                }
            ]
        },
    }
    return {
        "name": "models",
        "address": _address(Endpoint(HOST, port)),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }


def _cluster(name: str, replicas: Sequence[Endpoint]) -> Json:
    return {
        "@type": f"{_TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "lb_policy": "LEAST_REQUEST",
        # Without healthy replicas nothing is sent, where Envoy would try all of them by default.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        # A replica that drains, or generates wrongly, says so here: it gets nothing new at once.
        "health_checks": [
            {
                "timeout": "2s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/tunesmith/ready"},
            }
        ],
        "circuit_breakers": {
            "thresholds": [
                dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _MOST)
            ]
        },
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS.removeprefix("type.googleapis.com/"): {
                "@type": _HTTP_OPTIONS,
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(at)}} for at in replicas]}
            ],
        },
    }


def _address(at: Endpoint) -> Json:
    return {"socket_address": {"address": at.host, "port_value": at.port}}


def _from_file(path: Path) -> Json:
    return {
        "path_config_source": {
            "path": str(path),
            # NB: Envoy sees a file that is renamed into its place only in a watched folder.
            "watched_directory": {"path": str(path.parent)},
        },
        "resource_api_version": "V3",
    }
