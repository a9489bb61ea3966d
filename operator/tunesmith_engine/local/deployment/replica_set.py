"""All replicas of a deployment: seen as they are, and brought to what is desired.

Nothing is decided here. What a killed `tunesmith deploy` has left running is taken over by its
record, and what has no record is ended.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.deployment.adapter_hosts import (
    adapters_by_base,
    adapters_on,
    host_route,
    hosts_of,
    revisions_in,
)
from tunesmith_engine.deployment.observations import DesiredRevision, ReplicaState, Route
from tunesmith_engine.local.deployment.deployment_folder import (
    DeploymentFolder,
    ReplicaFolder,
    ReplicaRecord,
)
from tunesmith_engine.local.deployment.replica_process import Launcher, Replica, free_port
from tunesmith_engine.local.process_table import is_alive
from tunesmith_engine.local.processes import terminate_leftovers
from tunesmith_engine.stages.digests import path_of

_LOG = logging.getLogger(__name__)
_ASKED_AT_ONCE: Final = 16


class ReplicaSet:
    """The replicas of one deployment; only one may work in a deployment's folder at a time."""

    def __init__(
        self,
        folder: DeploymentFolder,
        *,
        launcher: Launcher,
        drain_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._launcher = launcher
        self._drain_s = drain_s
        self._clock = clock
        self._replicas: dict[str, Replica] = {}
        # The revisions that are adapters, by the revision of the base whose replicas hold them.
        self._adapters: Mapping[str, tuple[str, ...]] = {}
        self._executor = ThreadPoolExecutor(_ASKED_AT_ONCE)

    def recover(self, status: ModelDeploymentStatus | None = None) -> None:
        """Take over what runs and has a record; end all else that was started here.

        `status` is the one that was stored last: it says which adapters replicas hold.
        """
        self._adapters = adapters_by_base(revisions_in(status))
        for path in sorted(self._folder.replicas.glob("*-*")):
            replica = ReplicaFolder(path)
            record = replica.read()
            if record and record.identity and is_alive(record.identity):
                _LOG.info("%s goes on as process %d", replica.name, record.identity.pid)
                self._replicas[replica.name] = Replica(replica, record)
                continue
            terminate_leftovers(path)
            if record is not None:
                self._replicas[replica.name] = Replica(
                    replica, record.model_copy(update={"identity": None})
                )

    def observe(self) -> tuple[ReplicaState, ...]:
        """Every replica as it is now."""
        now = self._clock()
        list(self._executor.map(lambda replica: replica.observe(now), self._replicas.values()))
        return tuple(
            state
            for replica in self._replicas.values()
            for state in replica.states(self._adapters.get(replica.folder.revision, ()))
        )

    def apply(self, revisions: Iterable[DesiredRevision], *, in_use: Route | None) -> None:
        """Start what is missing, drain and end what is too many, and name adapters to the rest.

        `in_use` is the route that the proxy has confirmed: what it still sends requests to is not
        told to drain.
        """
        now, revisions = self._clock(), tuple(revisions)
        named = {wanted.revision: wanted for wanted in hosts_of(revisions)}
        self._hold(revisions, in_use or Route())
        in_use = in_use and host_route(in_use, revisions)
        for wanted in named.values():
            for index in range(wanted.replicas):
                self._keep(wanted, self._folder.replica(wanted.revision, index), now=now)
        for replica in list(self._replicas.values()):
            revision = named.get(replica.folder.revision)
            is_routed = in_use is None or _is_routed(in_use, replica.folder.revision)
            if revision is not None and revision.is_draining and not is_routed:
                replica.drain()
            if not self._is_wanted(replica, revision):
                # Of a revision that is not named any more, the drain is over.
                patience = self._drain_s if revision else 0.0
                self._end(replica, patience_s=patience, now=now)
            else:
                replica.end_if_hung(now)

    def _hold(self, revisions: Sequence[DesiredRevision], in_use: Route) -> None:
        """Have every replica of a base hold the adapters that are wanted on it."""
        self._adapters = adapters_by_base(revisions)
        for host in self._adapters:
            wanted = adapters_on(
                host, revisions, route=in_use, folder_of=lambda uri: str(path_of(uri))
            )
            for replica in self._replicas.values():
                if replica.folder.revision == host:
                    replica.hold(wanted)

    def ports(self) -> dict[str, list[int]]:
        """Where the replicas of each revision listen; whether they are ready, the proxy asks."""
        ports: dict[str, list[int]] = {}
        for replica in self._replicas.values():
            if replica.is_running and not replica.is_stopping:
                host = replica.folder.revision
                for revision in self._adapters.get(host) or (host,):
                    ports.setdefault(revision, []).append(replica.port)
        return ports

    def running(self, revision: str) -> list[Replica]:
        """The replicas of a revision that run now."""
        hosts = {host for host, held in self._adapters.items() if revision in held}
        return [
            replica
            for replica in self._replicas.values()
            if replica.is_running and replica.folder.revision in (hosts or {revision})
        ]

    @property
    def all_running(self) -> list[Replica]:
        """Those of every revision that run now."""
        return [replica for replica in self._replicas.values() if replica.is_running]

    def end_all(self) -> bool:
        """The next step of the end of everything; whether anything still runs."""
        now = self._clock()
        for replica in list(self._replicas.values()):
            self._end(replica, patience_s=self._drain_s, now=now)
        return bool(self._replicas)

    def close(self) -> None:
        """Kill what still runs, without asking."""
        for replica in self._replicas.values():
            replica.kill()
            replica.observe(self._clock())
        self._executor.shutdown()

    def _keep(self, wanted: DesiredRevision, folder: ReplicaFolder, *, now: float) -> None:
        """Start the replica, for the first time or again."""
        replica = self._replicas.get(folder.name)
        if (replica is not None and replica.is_running) or wanted.is_draining:
            return
        port = free_port()
        launch = self._launcher(wanted, folder, port, self._stable_port(wanted))
        if replica is not None and not replica.is_stopping:
            replica.start_again(launch, port=port, now=now)
            return
        self._replicas[folder.name] = Replica(folder, ReplicaRecord(port=port))
        self._replicas[folder.name].start(launch, port=port)

    def _stable_port(self, wanted: DesiredRevision) -> int | None:
        """Where a replica of the revision listens that this one is compared with, if one runs."""
        if wanted.compared_with is None:
            return None
        # NB: not by way of the proxy, which would split the question, too.
        return next(iter(self.ports().get(wanted.compared_with, ())), None)

    def _is_wanted(self, replica: Replica, revision: DesiredRevision | None) -> bool:
        if revision is None:
            return False
        if revision.is_draining:
            return replica.is_running
        # NB: an engine that was told to drain never gets ready again, so that one whose revision
        # comes back is ended and started anew.
        index = int(replica.folder.name.rpartition("-")[2])
        return index < revision.replicas and not replica.is_told_to_drain

    def _end(self, replica: Replica, *, patience_s: float, now: float) -> None:
        if replica.is_running:
            replica.stop(patience_s=patience_s, now=now)
            return
        replica.folder.forget()
        del self._replicas[replica.folder.name]


def _is_routed(route: Route, revision: str) -> bool:
    return route.weights.get(revision, 0) > 0 or route.mirror == revision
