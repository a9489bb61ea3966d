"""When an attempt left its queue, began and ended, by its Job and its newest pod.

What `advance` counts the seconds of an attempt from. A time that nobody wrote down is left out.
"""

from dataclasses import dataclass
from datetime import datetime

from tunesmith_operator.cluster_client import Manifest
from tunesmith_operator.placement import QUEUE_LABEL
from tunesmith_operator.pods import condition_of, containers_of, has_condition


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """The times that are known."""

    admitted: datetime | None = None
    began: datetime | None = None
    ended: datetime | None = None


def times_of(job: Manifest, pods: list[Manifest]) -> AttemptTimes:
    """The times of a Job and its pods, the newest last."""
    status = job.get("status", {})
    began, ended = _run(pods[-1]) if pods else (None, None)
    if has_condition(job, "Complete"):
        began, ended = began or status.get("startTime"), ended or status.get("completionTime")
    elif has_condition(job, "Failed"):
        ended = ended or (condition_of(job, "Failed") or {}).get("lastTransitionTime")
    queued = QUEUE_LABEL in (job["metadata"].get("labels") or {})
    admitted = status.get("startTime") if queued else None
    return AttemptTimes(_time(admitted), _time(began), _time(ended))


def times_of_rayjob(rayjob: Manifest, pods: list[Manifest]) -> AttemptTimes:
    """The times of a RayJob: it begins with the first of its pods."""
    status = rayjob.get("status") or {}
    starts = sorted(began for pod in pods if (began := _run(pod)[0]))
    began = starts[0] if starts else (status.get("rayJobInfo") or {}).get("startTime")
    queued = QUEUE_LABEL in (rayjob["metadata"].get("labels") or {})
    admitted = status.get("startTime") if queued else None
    return AttemptTimes(_time(admitted), _time(began), _time(status.get("endTime")))


def _run(pod: Manifest) -> tuple[str | None, str | None]:
    """When the container began, and when it ended, as its kubelet has it."""
    for container in containers_of(pod):
        state = container.get("state") or {}
        for run in (state.get("running"), state.get("terminated")):
            if run:
                return run.get("startedAt"), run.get("finishedAt")
    return None, None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
