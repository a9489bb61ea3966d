"""What pods and Jobs tell: why an attempt waits, and why it has ended without a result."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_api.status import Progress
from tunesmith_operator.cluster_client import Manifest

_CANNOT_START: Final = frozenset(
    {"CreateContainerConfigError", "ErrImagePull", "ImagePullBackOff", "InvalidImageName"}
)


@dataclass(frozen=True, slots=True)
class PodEnding:
    """How the container of an attempt ended; None is not known."""

    exit_code: int | None = None
    cause: Reason | None = None


def has_condition(found: Manifest, type_: str) -> bool:
    """Whether the object has this condition with status True."""
    return any(each["status"] == "True" for each in _conditions(found) if each["type"] == type_)


def ending_of_pods(job: Manifest, pods: list[Manifest]) -> PodEnding:
    """Why a Job failed; the Job's own word counts where its pod is gone."""
    if any("DisruptionTarget" in each.get("message", "") for each in _conditions(job)):
        return PodEnding(cause=Reason.PREEMPTED)
    for pod in pods:
        if has_condition(pod, "DisruptionTarget"):
            return PodEnding(cause=Reason.PREEMPTED)
        for container in pod.get("status", {}).get("containerStatuses", []):
            ended = container.get("state", {}).get("terminated")
            if ended:
                cause = Reason.OUT_OF_MEMORY if ended.get("reason") == "OOMKilled" else None
                return PodEnding(exit_code=ended.get("exitCode"), cause=cause)
    return PodEnding()


def waiting_progress(stage: str, pods: list[Manifest]) -> Progress | None:
    """Why no container runs yet, in the words of the scheduler or the kubelet."""
    for pod in pods:
        since = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        message = _why_waiting(pod)
        if message:
            return Progress(stage=stage, message=message[:256], last_update_time=since)
    return None


def _why_waiting(pod: Manifest) -> str:
    for each in _conditions(pod):
        if each["type"] == "PodScheduled" and each.get("reason") == "Unschedulable":
            return f"Unschedulable: {each.get('message', '')}"
    for container in pod.get("status", {}).get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _CANNOT_START:
            return f"{waiting['reason']}: {waiting.get('message', '')}"
    return ""


def _conditions(found: Manifest) -> list[Manifest]:
    conditions: list[Manifest] = found.get("status", {}).get("conditions") or []
    return conditions
