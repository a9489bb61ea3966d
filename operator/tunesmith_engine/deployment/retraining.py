"""The next job, where the traffic has drifted and the spec asks for one.

One for each version at most, and none while another version is tried: the version that comes of it
has a detector of its own. The record is stored before the job is made, and names it, so that
whoever was killed in between makes the same one, and nobody makes it again once it is there.
"""

from hashlib import sha256
from typing import Final

from tunesmith_api.modeldeployment.monitoring_status import (
    MAX_RETRAININGS,
    MonitoringStatus,
    Retraining,
)
from tunesmith_api.modeldeployment.status import CandidateStatus, RevisionStatus
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.deployment.deployment_state import Context

# Of the 40 characters of a job's name, a hyphen and the digest take nine.
_MAX_PREFIX: Final = 31


def next_retrainings(
    context: Context,
    monitoring: MonitoringStatus,
    *,
    stable: RevisionStatus,
    candidate: CandidateStatus | None,
) -> MonitoringStatus:
    """The status with the news of the job that is being made, or with the next job."""
    monitoring = _told(context, monitoring)
    if candidate is not None or not _is_due(context, monitoring, stable):
        return monitoring
    retrain = context.spec.monitoring.retrain
    if retrain is None:
        return monitoring
    new = Retraining(
        job=job_name(retrain.job_name, model=context.spec.model, version=stable.version),
        version=stable.version,
        time=context.now,
    )
    kept = [*monitoring.retrainings, new][-MAX_RETRAININGS:]
    update = {"retrainings": kept, "num_retrainings": monitoring.num_retrainings + 1}
    return monitoring.model_copy(update=update)


def job_name(copied: str, *, model: str, version: str) -> str:
    """The name of the job that follows `version`: always the same one."""
    digest = sha256(f"{copied}/{model}/{version}".encode()).hexdigest()[:8]
    return f"{copied[:_MAX_PREFIX].rstrip('-')}-{digest}"


def pending(monitoring: MonitoringStatus | None) -> Retraining | None:
    """The job that has to be made."""
    last = monitoring.retrainings[-1] if monitoring and monitoring.retrainings else None
    return last if last is not None and last.state == "Pending" else None


def _told(context: Context, monitoring: MonitoringStatus) -> MonitoringStatus:
    news, last = context.seen.retrain_news, pending(monitoring)
    if news is None or last is None or news.job != last.job:
        return monitoring
    state = "Created" if news.is_created else "Pending"
    changed = last.model_copy(update={"state": state, "message": truncate_message(news.message)})
    return monitoring.model_copy(update={"retrainings": [*monitoring.retrainings[:-1], changed]})


def _is_due(context: Context, monitoring: MonitoringStatus, stable: RevisionStatus) -> bool:
    spec, traffic = context.spec.monitoring, monitoring.traffic
    has_drifted = (
        traffic is not None and traffic.version == stable.version and bool(traffic.drifted)
    )
    if spec.retrain is None or "retrain" not in spec.on_drift.traffic or not has_drifted:
        return False
    if context.spec.suspend or context.seen.cannot_retrain:
        return False
    if monitoring.num_retrainings >= spec.retrain.max_runs:
        return False
    last = monitoring.retrainings[-1] if monitoring.retrainings else None
    if any(each.version == stable.version for each in monitoring.retrainings):
        return False
    return last is None or context.elapsed_s(last.time) >= spec.retrain.min_interval_seconds
