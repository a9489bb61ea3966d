"""Adapters as revisions, and the replicas of their base: records in, records out."""

from datetime import UTC, datetime

from deployment_world import a_spec
from tunesmith_api.modeldeployment.status import BaseStatus
from tunesmith_engine.deployment.adapter_hosts import (
    adapter_states,
    adapters_by_base,
    adapters_on,
    host_route,
    hosts_among,
    hosts_of,
)
from tunesmith_engine.deployment.observations import (
    AdapterBase,
    AvailableVersion,
    DesiredRevision,
    ReplicaState,
    Route,
)
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.deployment.revisions import base_of, revision_of

BASE = BaseStatus(revision="bbbbbbbb", digest=f"sha256:{'b' * 64}", uri="file:///bases/b")
OTHER = BaseStatus(revision="cccccccc", digest=f"sha256:{'c' * 64}", uri="file:///bases/c")
ROUTE = Route({"11111111": 70, "22222222": 30})


def desired(name: str, *, base: BaseStatus | None = BASE, **fields: object) -> DesiredRevision:
    given = {"replicas": 2, **fields}
    return DesiredRevision(
        revision=name * 8,
        version=f"v{name}",
        digest=f"sha256:{name * 64}",
        uri=f"file:///models/{name}",
        base=base,
        **given,  # type: ignore[arg-type]
    )


def a_version(name: str, *, base: str, claim: str | None = None) -> AvailableVersion:
    return AvailableVersion(
        version=name,
        digest=f"sha256:{name}",
        uri=f"file:///models/{name}",
        created=datetime(2026, 11, 27, tzinfo=UTC),
        num_bytes=1,
        claim_name=claim,
        base=AdapterBase(digest=base, uri=f"file:///{name}/bases/b"),
    )


def report(revision: str, **fields: object) -> ReplicaReport:
    given = {
        "revision": revision,
        "instance": "i",
        "ready": True,
        "draining": False,
        "reason": "Ready",
        "message": "",
        "running": 0,
        "accepted": 0,
        "quietSeconds": 9.0,
        **fields,
    }
    return ReplicaReport.model_validate(given)


def test_adapters_on_one_base_share_its_replicas() -> None:
    merged = desired("3", base=None, replicas=1)
    hosts = hosts_of([desired("1"), desired("2", replicas=3), desired("4", base=OTHER), merged])

    assert [(host.revision, host.replicas, host.is_base) for host in hosts] == [
        ("bbbbbbbb", 3, True),
        ("cccccccc", 2, True),
        ("33333333", 1, False),
    ]
    assert (hosts[0].uri, hosts[0].digest) == (BASE.uri, BASE.digest)


def test_a_base_drains_when_its_last_adapter_does() -> None:
    leaving = desired("1", is_draining=True)

    assert not hosts_of([leaving, desired("2")])[0].is_draining
    assert hosts_of([leaving])[0].is_draining


def test_the_route_of_a_base_is_that_of_its_adapters_together() -> None:
    revisions = [desired("1"), desired("2")]

    assert host_route(ROUTE, revisions) == Route({"bbbbbbbb": 100})
    assert host_route(ROUTE, []) == ROUTE


def test_a_replica_is_told_all_adapters_of_its_base_and_which_are_routed() -> None:
    revisions = [desired("2"), desired("1"), desired("5"), desired("4", base=OTHER)]
    told = adapters_on("bbbbbbbb", revisions, route=ROUTE, folder_of=lambda uri: uri[7:])

    assert [(each.revision, each.folder, each.is_routed) for each in told.adapters] == [
        ("11111111", "/models/1", True),
        ("22222222", "/models/2", True),
        ("55555555", "/models/5", False),
    ]


def test_a_replica_counts_for_each_adapter_by_what_it_says_of_that() -> None:
    pod = ReplicaState("pod", "bbbbbbbb", is_ready=True, is_reachable=True, running=3, accepted=9)
    wrong = {"ready": False, "reason": "FingerprintMismatch", "message": "other weights"}
    told = report("bbbbbbbb", adapters=[report("11111111", running=3), report("22222222", **wrong)])
    first, second, third = adapter_states(pod, told, ["11111111", "22222222", "55555555"])

    assert (first.is_ready, first.running, first.failure) == (True, 3, None)
    assert (second.is_ready, second.failure) == (False, "FingerprintMismatch")
    assert (third.is_ready, third.running, third.failure) == (False, 0, None)
    assert {state.name for state in (first, second, third)} == {
        "pod/11111111",
        "pod/22222222",
        "pod/55555555",
    }
    assert hosts_among([first, second, third]) == {"pod"}


def test_what_is_wrong_with_a_replica_is_wrong_with_its_adapters() -> None:
    crashed = ReplicaState("pod", "bbbbbbbb", restarts=2, failure="ReplicaCrashed", message="why")
    (state,) = adapter_states(crashed, None, ["11111111"])

    assert (state.failure, state.restarts, state.message) == ("ReplicaCrashed", 2, "why")
    assert not state.is_reachable
    assert adapter_states(crashed, None, []) == (crashed,)


def test_a_base_is_the_same_one_for_whoever_brings_it_to_the_same_volume() -> None:
    spec = a_spec(adapters={})
    one, two = a_version("1", base="b"), a_version("2", base="b")
    bases = [base_of(spec, version) for version in (one, two)]

    assert {base.revision for base in bases if base} == {bases[0].revision if bases[0] else ""}
    assert revision_of(spec, one) != revision_of(spec, two)
    others = (
        base_of(spec, a_version("3", base="c")),
        base_of(spec, a_version("3", base="b", claim="elsewhere")),
        base_of(a_spec(adapters={"maxRank": 64}), one),
    )
    assert bases[0] not in others
    assert len({base.revision for base in others if base}) == 3


def test_adapters_are_known_by_their_base() -> None:
    held = adapters_by_base([desired("1"), desired("1"), desired("2"), desired("3", base=None)])

    assert held == {"bbbbbbbb": ("11111111", "22222222")}
