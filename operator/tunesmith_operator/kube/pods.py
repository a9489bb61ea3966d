"""What a pod tells of how the container of an attempt ran and ended.

Facts of one pod each; `batch_job.py` and `ray_job.py` make the ending of an attempt of them, and
`pod_waits.py` says what a pod waits for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.termination_message import termination_message
from tunesmith_operator.kube.objects import (
    Manifest,
    condition_of,
    created_at,
    has_condition,
    status_of,
    time_of,
)

DISRUPTION: Final = "DisruptionTarget"

# Seconds. Volumes are mounted and networks set up within a few; a large image takes longer, but
# that comes after, and the condition PodReadyToStartContainers tells the two apart.
SANDBOX_GRACE_S: Final = 30.0

# Who took a pod away, by the reason of its condition; whoever else did so wanted its place.
_TAKEN_BY: Final[Mapping[str, Reason]] = {
    "DeletionByTaintManager": Reason.NODE_LOST,
    "DeletionByPodGC": Reason.NODE_LOST,
    "TerminationByKubelet": Reason.NODE_LOST,
}

# What a node was short of when its kubelet evicted the pod, by a word of the kubelet's message.
_SHORT_OF: Final[Mapping[str, Reason]] = {
    "memory": Reason.HOST_OOM_KILLED,
    "storage": Reason.DISK_FULL,
    "EmptyDir": Reason.DISK_FULL,
}


@dataclass(frozen=True, slots=True)
class PodTermination:
    """How the container of an attempt ended, and what its log ends with; None is not known."""

    exit_code: int | None = None
    cause: Reason | None = None
    termination_message: str = ""


@dataclass(frozen=True, slots=True)
class ContainerRun:
    """When a container ran, as its kubelet has it; None is not known, or not yet."""

    began: datetime | None = None
    ended: datetime | None = None


def containers_of(pod: Manifest) -> Iterator[Manifest]:
    """The status of each container, those that run before the stage's first."""
    status = status_of(pod)
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def run_of(pod: Manifest) -> ContainerRun:
    """The run of the first container that has begun; what ran before them does no work."""
    for container in status_of(pod).get("containerStatuses") or []:
        state = container.get("state") or {}
        run = state.get("running") or state.get("terminated")
        if run:
            began, ended = (run.get(name) for name in ("startedAt", "finishedAt"))
            return ContainerRun(
                began=time_of(began) if began else None, ended=time_of(ended) if ended else None
            )
    return ContainerRun()


def termination_of(pod: Manifest) -> PodTermination | None:
    """How the pod ended, None if it has not."""
    # An eviction is a disruption, too, and says more; and a container that is evicted ends with the
    # code of the kill, which says less than either.
    if evicted := _evicted_for(pod):
        return PodTermination(cause=evicted)
    if taken_by := taken_away_by(pod):
        return PodTermination(cause=taken_by)
    ran_before = status_of(pod).get("initContainerStatuses") or []
    for container in containers_of(pod):
        ended = container.get("state", {}).get("terminated")
        # One that runs before the others is to end with 0, and says nothing of them then.
        if ended and not (container in ran_before and ended.get("exitCode") == 0):
            return PodTermination(
                exit_code=ended.get("exitCode"),
                cause=Reason.HOST_OOM_KILLED if ended.get("reason") == "OOMKilled" else None,
                termination_message=termination_message(ended.get("message") or ""),
            )
    return None


def taken_away_by(pod: Manifest) -> Reason | None:
    """Why the cluster ends this pod, or has ended it; None if it does not."""
    if not has_condition(pod, DISRUPTION):
        return None
    condition = condition_of(pod, DISRUPTION) or {}
    return _TAKEN_BY.get(condition.get("reason", ""), Reason.PREEMPTED)


def taken_away_at(pod: Manifest) -> datetime:
    """Since when the cluster takes this pod away."""
    condition = condition_of(pod, DISRUPTION) or {}
    return time_of(condition.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def scheduled_at(pod: Manifest) -> datetime:
    """Since when the pod has its node, or is refused one."""
    condition = condition_of(pod, "PodScheduled") or {}
    return time_of(condition.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def is_sandbox_missing(pod: Manifest) -> bool:
    """Whether its node has neither mounted its volumes nor set up its network."""
    sandbox = condition_of(pod, "PodReadyToStartContainers") or {}
    return (
        status_of(pod).get("phase") == "Pending"
        and has_condition(pod, "PodScheduled")
        # NB: a kubelet that does not write this condition must not count as one that is stuck.
        and sandbox.get("status") == "False"
    )


def overdue_pod(pods: list[Manifest], *, now: datetime) -> Manifest | None:
    """The first pod whose node should long have mounted its volumes and set up its network.

    Why it has not stands in its Events alone, and each read of those costs a list of its own.
    """
    limit = now - timedelta(seconds=SANDBOX_GRACE_S)
    overdue = (pod for pod in pods if is_sandbox_missing(pod) and scheduled_at(pod) <= limit)
    return next(overdue, None)


def newest_last(pods: list[Manifest]) -> list[Manifest]:
    """The pods by the time of their creation."""
    return sorted(pods, key=created_at)


def _evicted_for(pod: Manifest) -> Reason | None:
    """What the pod used too much of, by its kubelet's account."""
    status = status_of(pod)
    if status.get("reason") != "Evicted":
        return None
    message = status.get("message", "")
    return next((reason for word, reason in _SHORT_OF.items() if word in message), None)
