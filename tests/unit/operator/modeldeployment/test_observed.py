"""What is read of versions, routes, replicas and commands: records in, records out."""

from datetime import UTC, datetime
from typing import Any

import pytest

from deployment_world import a_spec
from manifests import a_version
from tunesmith_api.modelversion import PUBLISHED_ANNOTATION
from tunesmith_engine.deployment.observations import Command, Route
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_operator.modeldeployment.achieved_split import Counter, SplitMeter
from tunesmith_operator.modeldeployment.commands import command_of
from tunesmith_operator.modeldeployment.deployment_ref import DeploymentRef
from tunesmith_operator.modeldeployment.front_service import front_service, service_state
from tunesmith_operator.modeldeployment.http_route import http_route, route_state
from tunesmith_operator.modeldeployment.manifests import covers
from tunesmith_operator.modeldeployment.replica_states import replica_state
from tunesmith_operator.modeldeployment.versions import available_versions

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
OWNER = DeploymentRef("helpdesk", "ns", "u")
SPEC = a_spec(gateway={"name": "public"})
ROUTE = Route({"0a1b2c3d": 90, "11111111": 10}, "11111111", 5)
Json = dict[str, Any]


def stored(**spec: Any) -> Json:
    version = a_version(**spec)
    version["metadata"]["creationTimestamp"] = "2026-11-27T11:00:00Z"
    return version


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({}, None),
        ({"uri": "file:///workspace/models/helpdesk/1", "claimName": "volume"}, None),
        ({"uri": "file:///workspace/models/helpdesk/1"}, "storage.claimName"),
        ({"uri": "file:///home/me/models/1", "claimName": "volume"}, "no path of a job's volume"),
        ({"uri": "file:///workspace/../etc", "claimName": "volume"}, "no path of a job's volume"),
        ({"uri": "ftp://a/b"}, "no pod can read"),
        ({"digest": "sha256:0"}, "cannot be read"),
        ({"files": [{"name": "f", "uri": "s3://f", "digest": "x", "bytes": 2 << 30}]}, "raise it"),
    ],
)
def test_what_keeps_a_version_from_being_served_is_told(spec: Json, told: str | None) -> None:
    wanted = a_spec(resources={"memory": "1Gi"})
    (version,) = available_versions([stored(**spec)], wanted, has_gateway=True)

    assert (version.problem is None) if told is None else (told in (version.problem or ""))


@pytest.mark.parametrize(
    ("annotations", "hour"),
    [
        ({PUBLISHED_ANNOTATION: "2026-11-20T09:00:00+00:00"}, 9),
        ({PUBLISHED_ANNOTATION: "yesterday"}, 11),
        ({PUBLISHED_ANNOTATION: "2026-11-20T09:00:00"}, 11),
        (None, 11),
    ],
)
def test_a_version_is_as_old_as_its_publication_whenever_its_record_was_made(
    annotations: Json | None, hour: int
) -> None:
    """What is restored from a backup is made in the order of the names."""
    manifest = stored()
    manifest["metadata"]["annotations"] = annotations
    (version,) = available_versions([manifest], SPEC, has_gateway=True)

    assert version.created.hour == hour


ADAPTER: Json = {
    "scheme": "adapter",
    "adapter": {
        "rank": 4,
        "baseUri": "file:///workspace/models/helpdesk/bases/b",
        "baseDigest": f"sha256:{'b' * 64}",
        "baseBytes": 1000,
    },
}


@pytest.mark.parametrize(
    ("uri", "has_gateway", "told"),
    [
        ("file:///workspace/models/helpdesk/1", True, None),
        ("file:///workspace/models/helpdesk/1", False, "spec.gateway"),
        ("s3://models/1", True, "from a volume alone"),
    ],
)
def test_what_keeps_an_adapter_from_being_served_is_told(
    uri: str, *, has_gateway: bool, told: str | None
) -> None:
    version = stored(uri=uri, claimName="volume", **ADAPTER)
    (read,) = available_versions([version], a_spec(adapters={}), has_gateway=has_gateway)

    assert (read.problem is None) if told is None else (told in (read.problem or ""))
    assert read.base is not None
    assert read.num_bytes == 1000


def test_a_route_names_the_adapter_of_each_backend() -> None:
    spec = a_spec(gateway={"name": "public"}, adapters={})
    (rule,) = http_route(OWNER, spec, Route({"0a1b2c3d": 90, "11111111": 10}))["spec"]["rules"]

    chosen = [
        backend["filters"][0]["requestHeaderModifier"]["set"][0]["value"]
        for backend in rule["backendRefs"]
    ]
    assert chosen == ["0a1b2c3d", "11111111"]
    assert "filters" not in http_route(OWNER, SPEC, ROUTE)["spec"]["rules"][0]["backendRefs"][0]


def test_versions_of_other_models_are_nobodys_business() -> None:
    assert available_versions([stored(model="other")], SPEC, has_gateway=True) == ()


GATEWAY: Json = {
    "spec": {"listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}]},
    "status": {"addresses": [{"value": "10.0.0.1"}]},
}


def routed(*conditions: tuple[str, str], observed: int = 3) -> Json:
    route = http_route(OWNER, SPEC, ROUTE)
    route["metadata"]["generation"] = 3
    told = [
        {"type": type_, "status": status, "reason": "R", "observedGeneration": observed}
        for type_, status in conditions
    ]
    route["status"] = {"parents": [{"parentRef": {"name": "public"}, "conditions": told}]}
    return route


def state_of(route: Json | None, gateway: Json | None = GATEWAY) -> Any:
    assert SPEC.gateway is not None
    return route_state(route, gateway, owner=OWNER, wanted=SPEC.gateway)


BOTH = (("Accepted", "True"), ("ResolvedRefs", "True"))


def test_a_route_is_in_use_once_its_gateway_has_confirmed_this_generation_of_it() -> None:
    assert state_of(routed(*BOTH)).in_use == ROUTE
    assert state_of(routed(*BOTH)).endpoint == "http://10.0.0.1:8080/v1"
    assert state_of(routed(*BOTH, observed=2)).in_use is None
    assert state_of(routed(BOTH[0])).in_use is None
    assert state_of(None).in_use == Route()


def test_who_stands_by_is_named_in_the_route_and_gets_nothing() -> None:
    revisions = [*ROUTE.weights, *(f"{number:08x}" for number in range(20))]
    route = http_route(OWNER, SPEC, ROUTE, standby=revisions)
    (rule,) = route["spec"]["rules"]
    weights = {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}

    assert len(weights) == 16
    assert weights["helpdesk-00000000"] == 0
    assert sum(weights.values()) == 100
    route |= {key: value for key, value in routed(*BOTH).items() if key in {"metadata", "status"}}
    assert state_of(route).in_use == ROUTE


def test_a_gateway_api_that_copies_all_requests_or_none_is_told() -> None:
    route = routed(*BOTH)
    copying: Json = {"backendRef": {"name": "helpdesk-11111111"}}
    route["spec"]["rules"][0]["filters"] = [{"type": "RequestMirror", "requestMirror": copying}]
    gateway = SPEC.gateway
    assert gateway is not None

    def told(percent: int) -> str:
        state = route_state(route, GATEWAY, owner=OWNER, wanted=gateway, mirror_percent=percent)
        return state.message

    assert "cannot mirror 20 % of the requests" in told(20)
    assert told(100) == ""
    copying["percent"] = 20
    assert told(20) == ""


def test_a_refused_route_and_a_gateway_that_is_not_there_are_told() -> None:
    assert state_of(routed(BOTH[0], ("ResolvedRefs", "False"))).failure == "RouteNotAccepted"
    assert state_of(None, None).failure == "NoGateway"


def test_a_service_leads_to_the_revision_with_the_most_weight() -> None:
    front = front_service(OWNER, a_spec(port=80), Route({"0a1b2c3d": 90, "11111111": 10}))
    state = service_state(front, owner=OWNER, spec=a_spec(port=80))

    assert state.in_use == Route({"0a1b2c3d": 100})
    assert state.endpoint == "http://helpdesk.ns.svc:80/v1"
    nobody = front_service(OWNER, a_spec(), Route())
    assert service_state(nobody, owner=OWNER, spec=a_spec()).in_use == Route()


def pod(*, ready: bool = True, **container: Any) -> Json:
    status = {
        "phase": "Running",
        "podIP": "10.0.0.2",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [{"name": "server", "restartCount": 0, **container}],
    }
    labels = {"tunesmith.dev/revision": "0a1b2c3d"}
    return {"metadata": {"name": "p", "labels": labels}, "spec": {}, "status": status}


def report(**fields: Any) -> ReplicaReport:
    given = {"instance": "i", "ready": True, "reason": "Ready", "message": "", "running": 1}
    given |= {"accepted": 7, "quietSeconds": 0.5, "revision": "0a1b2c3d", "draining": False}
    return ReplicaReport.model_validate(given | fields)


def test_a_replica_is_ready_by_its_own_word_and_its_kubelets() -> None:
    assert replica_state(pod(), report(), now=NOW).is_ready
    assert not replica_state(pod(ready=False), report(), now=NOW).is_ready
    assert not replica_state(pod(), report(ready=False), now=NOW).is_ready
    silent = replica_state(pod(), None, now=NOW)
    assert (silent.is_ready, silent.is_reachable, silent.running) == (False, False, None)


@pytest.mark.parametrize(
    ("container", "said", "failure"),
    [
        ({}, {"ready": False, "reason": "FingerprintMismatch"}, "FingerprintMismatch"),
        ({}, {"ready": False, "reason": "NoProgress"}, None),
        ({"lastState": {"terminated": {"exitCode": 2}}}, None, "VersionUnusable"),
        ({"lastState": {"terminated": {"exitCode": 137}}, "restartCount": 1}, None, None),
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3},
            None,
            "ReplicaCrashed",
        ),
    ],
)
def test_what_no_waiting_will_mend_is_a_failure(
    container: Json, said: Json | None, failure: str | None
) -> None:
    told = report(**said) if said is not None else None

    assert replica_state(pod(**container), told, now=NOW).failure == failure


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("pause", Command("pause")),
        ("promote v2", Command("promote", "v2")),
        (" abort  v2 ", Command("abort", "v2")),
        ("promote", None),
        ("promote v2 now", None),
        ("", None),
    ],
)
def test_a_command_names_its_version(words: str, command: Command | None) -> None:
    annotations = {"tunesmith.dev/rollout": words}

    assert command_of({"metadata": {"annotations": annotations}}) == command


def test_the_split_that_was_achieved_counts_from_when_the_route_came_into_use() -> None:
    route = Route({"a": 50, "b": 50})
    meter = SplitMeter().read(route, {"p": Counter("a", "1", 100)}, now=NOW)
    assert meter.achieved() == {}
    # `p` was started anew, and `q` is new: both count from 0.
    counters = {"p": Counter("a", "2", 30), "q": Counter("b", "1", 10)}
    meter = meter.read(route, counters, now=NOW)
    assert meter.achieved() == {"a": 75.0, "b": 25.0}
    # Nothing is forgotten of a replica that is gone, nor while the proxy confirms nothing.
    assert meter.read(None, {}, now=NOW) == meter
    assert meter.read(route, {}, now=NOW).achieved() == {"a": 75.0, "b": 25.0}
    assert meter.read(Route({"a": 100}), counters, now=NOW).achieved() == {}


def test_what_defaults_and_others_add_is_no_difference() -> None:
    wanted = {"ports": [{"port": 80}], "selector": {"a": "b"}}

    assert covers({"ports": [{"port": 80, "nodePort": 0}], "selector": {"a": "b"}, "x": 1}, wanted)
    assert not covers({"ports": [], "selector": {"a": "b"}}, wanted)
    assert not covers({"ports": [{"port": 80}]}, wanted)
