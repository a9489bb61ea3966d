"""What pods and Jobs tell of how an attempt ended without a result."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.termination_message import termination_message
from tunesmith_operator.kube.client import Manifest

DISRUPTION: Final = "DisruptionTarget"

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
class PodEnding:
    """How the container of an attempt ended, and what its log ends with; None is not known."""

    exit_code: int | None = None
    cause: Reason | None = None
    termination_message: str = ""


def has_condition(found: Manifest, type_: str) -> bool:
    """Whether the object has this condition with status True."""
    condition = condition_of(found, type_)
    return condition is not None and condition["status"] == "True"


def condition_of(found: Manifest, type_: str) -> Manifest | None:
    """The object's condition of this type."""
    conditions: list[Manifest] = found.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == type_), None)


def true_since(found: Manifest, type_: str) -> datetime | None:
    """Since when the object has this condition with status True."""
    condition = condition_of(found, type_) if has_condition(found, type_) else None
    return datetime.fromisoformat(condition["lastTransitionTime"]) if condition else None


def is_owned(found: Manifest, *, by_uid: str) -> bool:
    """Whether the object belongs to the one with this uid."""
    owners = found["metadata"].get("ownerReferences") or []
    return any(each["uid"] == by_uid for each in owners)


def containers_of(pod: Manifest) -> Iterator[Manifest]:
    """The status of each container, those that run before the stage's first."""
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def ending_of_pods(job: Manifest, pods: list[Manifest]) -> PodEnding:
    """Why a Job failed; the Job's own word counts where its pod is gone."""
    for pod in pods:
        evicted = _evicted(pod)
        if evicted is not None:
            return PodEnding(cause=evicted)
        taken_by = taken_away(pod)
        if taken_by is not None:
            return PodEnding(cause=taken_by)
        for container in containers_of(pod):
            ended = container.get("state", {}).get("terminated")
            if ended:
                cause = Reason.HOST_OOM_KILLED if ended.get("reason") == "OOMKilled" else None
                said = termination_message(ended.get("message") or "")
                return PodEnding(
                    exit_code=ended.get("exitCode"), cause=cause, termination_message=said
                )
    failed = condition_of(job, "Failed") or {}
    if DISRUPTION in failed.get("message", ""):
        return PodEnding(cause=Reason.PREEMPTED)
    return PodEnding(cause=None if pods else Reason.POD_DELETED)


def taken_away(pod: Manifest) -> Reason | None:
    """Why the cluster ends this pod, or has ended it; None if it does not."""
    if not has_condition(pod, DISRUPTION):
        return None
    condition = condition_of(pod, DISRUPTION) or {}
    return _TAKEN_BY.get(condition.get("reason", ""), Reason.PREEMPTED)


def _evicted(pod: Manifest) -> Reason | None:
    """What the pod used too much of, by its kubelet's account."""
    status = pod.get("status", {})
    if status.get("reason") != "Evicted":
        return None
    message = status.get("message", "")
    return next((reason for word, reason in _SHORT_OF.items() if word in message), None)
