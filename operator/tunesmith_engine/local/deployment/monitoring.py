"""What is watched of a deployment on one machine; its memory is `monitoring.json` in the folder."""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tunesmith_api.modeldeployment.monitoring_status import TrafficStatus
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus, RevisionStatus
from tunesmith_engine.deployment.observations import Monitored
from tunesmith_engine.local.deployment.replica_client import (
    read_drift,
    read_metrics,
    read_reference,
)
from tunesmith_engine.local.deployment.replica_process import Replica
from tunesmith_engine.monitoring.memory import MonitoringMemory, read_memory
from tunesmith_engine.monitoring.monitor import (
    Detector,
    Reading,
    monitored,
    place_behind,
    take_in,
)
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)
# Seconds. Replicas are near, and people look at it live.
READ_S: Final = 5.0
SAVE_S: Final = 60.0


class Monitoring:
    """Reads the replicas from time to time; `path` is where the memory is kept."""

    def __init__(
        self,
        path: Path,
        spec: ModelDeploymentSpec,
        *,
        detector: Detector,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._spec = spec
        self._detector = detector
        self._clock = clock
        self._memory = read_memory(path.read_bytes()) if path.exists() else None
        self._read_at = float("-inf")
        self._saved_at = clock()
        self._revision = ""
        self._reference: dict[str, Any] | None = None
        self._traffic: TrafficStatus | None = None

    def look(
        self,
        replicas: Iterable[Replica],
        status: ModelDeploymentStatus | None,
        *,
        now: datetime,
    ) -> Monitored | None:
        """What is known by now of the replicas that run; None where nothing is to be watched."""
        if not self._spec.monitoring.enabled or status is None or status.stable is None:
            return None
        if self._clock() - self._read_at >= READ_S:
            self._read_at = self._clock()
            self._read(list(replicas), status.stable, now=now)
        if self._clock() - self._saved_at >= SAVE_S:
            self.save()
        return monitored(
            self._memory or MonitoringMemory(),
            spec=self._spec,
            traffic=self._traffic,
            before=status.monitoring,
            default_price=None,
            now=now,
        )

    def save(self) -> None:
        """Keep the memory for the next `tunesmith deploy`."""
        if self._memory is None:
            return
        self._saved_at = self._clock()
        try:
            write_atomically(self._path, self._memory.to_json())
        except OSError as error:
            # A full disk is no reason to stop serving.
            _LOG.warning("what was watched is not kept: %s", error)

    def _read(self, replicas: list[Replica], stable: RevisionStatus, *, now: datetime) -> None:
        of_stable = [replica for replica in replicas if replica.folder.revision == stable.revision]
        if self._revision != stable.revision:
            self._revision, self._reference = stable.revision, None
            if self._memory is not None and self._memory.revision != stable.revision:
                # The detector begins anew, with all that the replicas still hold.
                self._memory = self._memory.model_copy(update={"places": {}})
        for replica in of_stable:
            if self._reference is None and replica.is_reachable:
                self._reference = read_reference(replica.port)
        self._memory = take_in(
            self._memory,
            {
                replica.folder.name: reading
                for replica in replicas
                if (reading := self._reading(replica, stable)) is not None
            },
            replicas={replica.folder.name for replica in replicas},
            spec=self._spec,
            stable=stable,
            reference=self._reference,
            detector=self._detector,
            now=now,
        )
        self._traffic = self._detector.traffic(
            self._memory.drift, version=stable.version, reference=self._reference
        )

    def _reading(self, replica: Replica, stable: RevisionStatus) -> Reading | None:
        report = replica.report
        if report is None:
            # It would hold this loop up.
            return None
        after = place_behind(self._memory, replica.folder.name, instance=report.instance)
        is_stable = replica.folder.revision == stable.revision
        return Reading(
            report,
            metrics=read_metrics(replica.port),
            drift=read_drift(replica.port, after=after) if is_stable else (),
        )
