"""What is watched of each deployment: replicas are read once a minute, the memory is kept.

The memory is a ConfigMap `<deployment>-monitoring`, written every five minutes at most. What was
read since goes with an operator that is killed; the next one reads it from the replicas again.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_api.modeldeployment.monitoring_status import TrafficStatus
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus, RevisionStatus
from tunesmith_engine.deployment.observations import Monitored
from tunesmith_engine.monitoring.memory import MonitoringMemory, read_memory
from tunesmith_engine.monitoring.monitor import (
    READ_S,
    Detector,
    Reading,
    monitored,
    place_behind,
    take_in,
)
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.resources import CONFIG_MAP
from tunesmith_operator.modeldeployment.deployment_ref import DeploymentRef
from tunesmith_operator.modeldeployment.observer import Snapshot
from tunesmith_operator.modeldeployment.replica_client import Replicas

_LOG = logging.getLogger(__name__)
SAVE_S: Final = 300.0
# Looks that are a minute apart on the average come a little early, too.
_DUE_S: Final = READ_S - 10.0
_FILE: Final = "memory.json"


@dataclass(slots=True)
class _Watched:
    """One deployment: what is remembered, and when it was read and kept last.

    `is_kept`: the place to keep it is not taken by somebody else's object.
    """

    memory: MonitoringMemory | None
    saved_at: datetime
    counted: dict[str, object] = field(default_factory=dict)
    is_kept: bool = True
    read_at: datetime | None = None
    revision: str = ""
    reference: dict[str, Any] | None = None
    traffic: TrafficStatus | None = None


class Monitors:
    """At most one for each deployment."""

    def __init__(
        self,
        client: KubeClient,
        replicas: Replicas,
        *,
        detector: Detector,
        default_price: float | None,
    ) -> None:
        self._client = client
        self._replicas = replicas
        self._detector = detector
        self._default_price = default_price
        self._by_key: dict[Key, _Watched] = {}

    def forget(self, key: Key) -> None:
        """Note that the deployment is gone, or is not to be watched; its memory goes with it."""
        self._by_key.pop(key, None)

    async def monitored(
        self,
        owner: DeploymentRef,
        spec: ModelDeploymentSpec,
        status: ModelDeploymentStatus | None,
        snapshot: Snapshot,
        *,
        now: datetime,
    ) -> Monitored | None:
        """What is known by now; None where nothing is to be watched."""
        if not spec.monitoring.enabled or status is None or status.stable is None:
            self.forget(owner.key)
            return None
        watched = self._by_key.get(owner.key)
        if watched is None:
            watched = await self._recall(owner, now=now)
            self._by_key[owner.key] = watched
        if watched.read_at is None or _age_s(watched.read_at, now) >= _DUE_S:
            watched.read_at = now
            await self._read(watched, spec, status.stable, snapshot, now=now)
        if _age_s(watched.saved_at, now) >= SAVE_S:
            await self._save(owner, watched, now=now)
        return monitored(
            watched.memory or MonitoringMemory(),
            spec=spec,
            traffic=watched.traffic,
            before=status.monitoring,
            default_price=self._default_price,
            now=now,
        )

    async def _read(
        self,
        watched: _Watched,
        spec: ModelDeploymentSpec,
        stable: RevisionStatus,
        snapshot: Snapshot,
        *,
        now: datetime,
    ) -> None:
        hosts = {name: at for group in snapshot.hosts.values() for name, at in group.items()}
        of_stable = snapshot.hosts.get(stable.revision, {})
        if watched.revision != stable.revision:
            watched.revision, watched.reference = stable.revision, None
        if watched.reference is None and of_stable:
            watched.reference = await self._replicas.reference(next(iter(of_stable.values())))
        reports = {name: snapshot.reports[name] for name in hosts}
        memory = watched.memory
        if memory is not None and memory.revision != stable.revision:
            # The detector begins anew, with all that the replicas still hold.
            memory = memory.model_copy(update={"places": {}})
        after = {
            name: place_behind(memory, name, instance=reports[name].instance) for name in of_stable
        }
        metrics = await self._replicas.metrics(hosts)
        pages = await self._replicas.drift(of_stable, after)
        # Numbers of thousands of requests: this loop has other deployments to look at.
        watched.memory = await asyncio.to_thread(
            take_in,
            watched.memory,
            {
                name: Reading(report, metrics.get(name), pages.get(name, ()))
                for name, report in reports.items()
            },
            replicas={replica.name for replica in snapshot.replicas},
            spec=spec,
            stable=stable,
            reference=watched.reference,
            detector=self._detector,
            now=now,
        )
        watched.traffic = await asyncio.to_thread(
            self._detector.traffic,
            watched.memory.drift,
            version=stable.version,
            reference=watched.reference,
        )

    async def _recall(self, owner: DeploymentRef, *, now: datetime) -> _Watched:
        stored = await self._client.get(CONFIG_MAP.kind, owner.namespace, _name(owner))
        if stored is None:
            return _Watched(None, saved_at=now)
        if not owner.owns(stored):
            _LOG.warning("%s is not of %s/%s, and is left alone", _name(owner), *owner.key[1:])
            return _Watched(None, saved_at=now, is_kept=False)
        memory = read_memory((stored.get("data") or {}).get(_FILE))
        return _Watched(memory, saved_at=now, counted=memory.counted if memory else {})

    async def _save(self, owner: DeploymentRef, watched: _Watched, *, now: datetime) -> None:
        if watched.memory is None or not watched.is_kept:
            return
        watched.saved_at = now
        counted = watched.memory.counted
        if counted == watched.counted:
            return
        watched.counted = counted
        try:
            await self._client.apply(
                {
                    "apiVersion": CONFIG_MAP.api_version,
                    "kind": CONFIG_MAP.kind,
                    "metadata": owner.metadata(_name(owner)),
                    "data": {_FILE: watched.memory.to_json()},
                }
            )
        except ApiException as error:
            # Watching is no reason to stop a deployment; the next time comes.
            _LOG.warning("the memory of %s/%s is not kept: %s", *owner.key[1:], error.reason)


def _age_s(since: datetime, now: datetime) -> float:
    """Either way: a clock that was set back must not stop the reading."""
    return abs((now - since).total_seconds())


def _name(owner: DeploymentRef) -> str:
    return f"{owner.name}-monitoring"
