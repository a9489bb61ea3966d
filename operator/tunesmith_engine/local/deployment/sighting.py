"""What is seen of a deployment on this machine, by its folder and by asking its replicas.

Whoever may read the folder may watch: the page of `tunesmith deploy` and `tunesmith watch` alike.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.local.deployment.deployment_folder import DeploymentFolder, ReplicaFolder
from tunesmith_engine.local.deployment.replica_client import read_metrics, read_state
from tunesmith_engine.local.process_table import is_alive
from tunesmith_engine.monitoring.replica_metrics import parse_metrics
from tunesmith_engine.monitoring.sighting import ReplicaSighting, Sighting

_ASKED_AT_ONCE: Final = 8


def look_at(folder: DeploymentFolder, deployment: ModelDeployment) -> Sighting:
    """See the status as it was stored last, and ask every replica that was started."""
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as executor:
        replicas = tuple(executor.map(_replica, sorted(folder.started_replicas(), key=_name)))
    return Sighting(
        name=deployment.metadata.name,
        time=datetime.now(UTC),
        seconds=time.monotonic(),
        spec=deployment.spec,
        status=folder.read_status() or ModelDeploymentStatus(),
        replicas=replicas,
        is_served=folder.is_served,
    )


def _name(replica: ReplicaFolder) -> str:
    return replica.name


def _replica(folder: ReplicaFolder) -> ReplicaSighting:
    record = folder.read()
    lives = record is not None and record.identity is not None and is_alive(record.identity)
    report = read_state(record.port) if record and lives else None
    if record is None or report is None or report.revision != folder.revision:
        return ReplicaSighting(
            name=folder.name,
            revision=folder.revision,
            restarts=record.restarts if record else 0,
            message="starts, or hangs" if lives else f"has ended; see {folder.log}",
        )
    text = read_metrics(record.port)
    return ReplicaSighting(
        name=folder.name,
        revision=folder.revision,
        report=report,
        metrics=None if text is None else parse_metrics(text),
        restarts=record.restarts,
    )
