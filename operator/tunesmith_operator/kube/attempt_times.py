"""When an attempt left its queue, began and ended, by its Job and its newest pod.

What `advance` counts the seconds of an attempt from. A time that nobody wrote down is left out.
"""

from dataclasses import dataclass
from datetime import datetime

from tunesmith_operator.kube.client import Manifest
from tunesmith_operator.kube.kueue import is_queued, names_queue
from tunesmith_operator.kube.pods import condition_of, containers_of, has_condition
from tunesmith_operator.kube.ray_job import is_asleep, pods_of_run


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """The times that are known."""

    admitted: datetime | None = None
    began: datetime | None = None
    ended: datetime | None = None


def times_of(
    job: Manifest, pods: list[Manifest], *, let_in: datetime | None = None
) -> AttemptTimes:
    """The times of a Job and its pods, the newest last.

    `let_in` is when its queue let it run, for as long as the Job says nothing of it.
    """
    status = job.get("status", {})
    began, ended = _run(pods[-1]) if pods else (None, None)
    if has_condition(job, "Complete"):
        began, ended = began or status.get("startTime"), ended or status.get("completionTime")
    elif has_condition(job, "Failed"):
        ended = ended or (condition_of(job, "Failed") or {}).get("lastTransitionTime")
    admitted = _admitted(job, let_in or _time(status.get("startTime")))
    return AttemptTimes(admitted, _time(began), _time(ended))


def times_of_rayjob(
    rayjob: Manifest, pods: list[Manifest], *, let_in: datetime | None = None
) -> AttemptTimes:
    """The times of a RayJob: it begins with the first of its pods.

    KubeRay gives one that is suspended a start time, too, and the next only once it goes on with
    it; until then `let_in` is when its queue let it run.
    """
    status = rayjob.get("status") or {}
    starts = sorted(began for pod in pods_of_run(rayjob, pods) if (began := _run(pod)[0]))
    began = starts[0] if starts else (status.get("rayJobInfo") or {}).get("startTime")
    started = None if is_asleep(rayjob) else _time(status.get("startTime"))
    admitted = _admitted(rayjob, let_in or started)
    return AttemptTimes(admitted, _time(began), _time(status.get("endTime")))


def _admitted(child: Manifest, started: datetime | None) -> datetime | None:
    """When it left its queue last; what is in one, or never was, has not."""
    return started if names_queue(child) and not is_queued(child) else None


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
