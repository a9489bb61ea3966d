"""Revisions that are adapters, and the replicas of the bases that hold them. Pure.

`advance` knows revisions alone. An executor makes replicas of what `hosts_of` gives, tells each the
list of `adapters_on`, and turns what it sees of a replica into one state for each of its adapters.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from tunesmith_api.modeldeployment.status import ModelDeploymentStatus, RevisionStatus
from tunesmith_engine.deployment.adapter_list import AdapterList, WantedAdapter
from tunesmith_engine.deployment.observations import DesiredRevision, ReplicaState, Route
from tunesmith_engine.deployment.replica_report import WRONG_ANSWERS, ReplicaReport


def hosts_of(revisions: Iterable[DesiredRevision]) -> tuple[DesiredRevision, ...]:
    """What replicas there have to be: of each base once, and of each version that is no adapter."""
    hosts: dict[str, DesiredRevision] = {}
    for revision in revisions:
        host = _host(revision)
        before = hosts.get(host.revision)
        if before is not None:
            host = replace(
                before,
                replicas=max(before.replicas, host.replicas),
                # One that drains takes no replica from another that is served.
                is_draining=before.is_draining and host.is_draining,
            )
        hosts[host.revision] = host
    return tuple(hosts.values())


def _host(revision: DesiredRevision) -> DesiredRevision:
    base = revision.base
    if base is None:
        return revision
    return DesiredRevision(
        revision=base.revision,
        # A label of pods; of a digest its first characters, as of versions.
        version=f"base-{base.digest.removeprefix('sha256:')[:12]}",
        digest=base.digest,
        uri=base.uri,
        replicas=revision.replicas,
        claim_name=revision.claim_name,
        is_draining=revision.is_draining,
        is_base=True,
    )


def host_route(route: Route, revisions: Iterable[DesiredRevision]) -> Route:
    """The same route as one among the replicas of bases."""
    host = {revision.revision: _host(revision).revision for revision in revisions}
    weights: dict[str, int] = {}
    for name, weight in route.weights.items():
        weights[host.get(name, name)] = weights.get(host.get(name, name), 0) + weight
    mirror = route.mirror and host.get(route.mirror, route.mirror)
    return Route(weights, mirror, route.mirror_percent)


def adapters_on(
    host: str,
    revisions: Iterable[DesiredRevision],
    *,
    route: Route,
    folder_of: Callable[[str], str],
) -> AdapterList:
    """What the replicas of the base `host` have to hold.

    `route` is what they may be given requests by, `folder_of` where a version's URI lies for them.
    """
    wanted = tuple(
        WantedAdapter(
            revision=revision.revision,
            version=revision.version,
            digest=revision.digest,
            folder=folder_of(revision.uri),
            is_routed=route.weights.get(revision.revision, 0) > 0,
        )
        for revision in sorted(revisions, key=lambda revision: revision.revision)
        if revision.base is not None and revision.base.revision == host
    )
    return AdapterList(adapters=wanted)


def revisions_in(status: ModelDeploymentStatus | None) -> tuple[RevisionStatus, ...]:
    """All revisions of a status; stable that was stopped stands in it twice, since it drains."""
    if status is None:
        return ()
    named = (status.stable, status.candidate, *status.draining)
    return tuple(revision for revision in named if revision is not None)


def adapters_by_base(
    revisions: Iterable[RevisionStatus | DesiredRevision],
) -> Mapping[str, tuple[str, ...]]:
    """The revisions that are adapters on each base, by the base's revision."""
    by_base: dict[str, dict[str, None]] = {}
    for revision in revisions:
        if revision.base is not None:
            by_base.setdefault(revision.base.revision, {})[revision.revision] = None
    return {base: tuple(held) for base, held in by_base.items()}


def adapter_states(
    host: ReplicaState, report: ReplicaReport | None, revisions: Iterable[str]
) -> tuple[ReplicaState, ...]:
    """The replica as one of each revision; itself where `revisions` is empty.

    What is wrong with the replica is wrong with all its adapters, and not the other way round.
    """
    states = tuple(_of_adapter(host, report, revision) for revision in revisions)
    return states or (host,)


def _of_adapter(host: ReplicaState, report: ReplicaReport | None, revision: str) -> ReplicaState:
    named = replace(host, name=name_on(host.name, revision), revision=revision)
    if report is None:
        return named
    told = report.adapter(revision)
    if told is None:
        # Not named to it yet: it has no request of this adapter.
        return replace(
            named, is_ready=False, running=0, accepted=0, quiet_seconds=report.quiet_seconds
        )
    failure = told.reason if told.reason in WRONG_ANSWERS else None
    return replace(
        named,
        is_ready=host.is_ready and told.ready,
        running=told.running,
        accepted=told.accepted,
        quiet_seconds=told.quiet_seconds,
        probe=told.probe,
        failure=host.failure or failure,
        message="" if told.ready else (f"{told.reason}: {told.message}"),
    )


def hosts_among(replicas: Iterable[ReplicaState]) -> set[str]:
    """The names of the replicas themselves, of which each may hold several adapters."""
    return {replica.name.partition("/")[0] for replica in replicas}


def name_on(replica: str, revision: str) -> str:
    """A name for the adapter on a replica: it has counters and samples of its own."""
    return f"{replica}/{revision}"


def query_of(name: str) -> str:
    """What a path of a replica ends with to be about the adapter that `name` is of."""
    adapter = name.partition("/")[2]
    return f"&adapter={adapter}" if adapter else ""
