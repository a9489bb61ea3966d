"""A replica as its pod and its own words tell of it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.observations import ReplicaState
from tunesmith_engine.deployment.replica_report import WRONG_ANSWERS, ReplicaReport
from tunesmith_engine.stages.termination_message import termination_message
from tunesmith_operator.kube.objects import (
    Manifest,
    has_condition,
    is_deleting,
    label_of,
    quoted,
    status_of,
)
from tunesmith_operator.kube.pod_waits import wait_of_pod
from tunesmith_operator.kube.pods import containers_of
from tunesmith_operator.modeldeployment.deployment_ref import LABEL_REVISION

# A node, a quota or a volume may come; an image of that name will not.
_HOPELESS_WAITS: Final = frozenset({Reason.IMAGE_PULL_FAILED})
# `serve` and `fetch` end so where the version is refused: other bytes, no version at all.
_EXIT_REFUSED: Final = 2
_MANY_CRASHES: Final = 3
_MAX_QUOTE: Final = 160


def host_of(pod: Manifest) -> str | None:
    """The address at which the pod may be asked; None before it runs, and after."""
    status = status_of(pod)
    address: str | None = status.get("podIP")
    return address if address and status.get("phase") == "Running" else None


def replica_state(pod: Manifest, report: ReplicaReport | None, *, now: datetime) -> ReplicaState:
    """The replica of a pod; `report` is None where it was not asked, or did not answer."""
    name, revision = pod["metadata"]["name"], label_of(pod, LABEL_REVISION) or ""
    restarts = sum(container.get("restartCount", 0) for container in containers_of(pod))
    is_stopping = is_deleting(pod) or status_of(pod).get("phase") in {"Succeeded", "Failed"}
    failure, message = _trouble(pod, report, now=now)
    if report is None:
        return ReplicaState(
            name,
            revision,
            restarts=restarts,
            failure=failure,
            message=message,
            is_stopping=is_stopping,
        )
    return ReplicaState(
        name,
        revision,
        # By its own word, and its kubelet's: requests come only to those.
        is_ready=report.ready and has_condition(pod, "Ready"),
        is_reachable=True,
        running=report.running,
        accepted=report.accepted,
        quiet_seconds=report.quiet_seconds,
        restarts=restarts,
        failure=failure,
        message=message,
        is_stopping=is_stopping,
        probe=report.probe,
    )


def _trouble(
    pod: Manifest, report: ReplicaReport | None, *, now: datetime
) -> tuple[str | None, str]:
    """What no waiting will mend, if anything, and what a person should know."""
    if report is not None and not report.ready:
        failure = report.reason if report.reason in WRONG_ANSWERS else None
        return failure, quoted(report.message, at_most=_MAX_QUOTE)
    for ended in _endings(pod):
        if ended.get("exitCode") == _EXIT_REFUSED:
            said = termination_message(ended.get("message") or "")
            return str(Reason.VERSION_UNUSABLE), quoted(said, at_most=_MAX_QUOTE)
    for container in containers_of(pod):
        is_backing_off = (
            container.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        )
        if is_backing_off and container.get("restartCount", 0) >= _MANY_CRASHES:
            name = pod["metadata"]["name"]
            told = f"its server crashes again and again; `kubectl logs --previous {name}` shows why"
            return str(Reason.REPLICA_CRASHED), told
    wait = wait_of_pod("the replica", pod)
    if wait is None or now < wait.reported_at:
        return None, ""
    is_over = wait.times_out_at is not None and now >= wait.times_out_at
    return str(wait.reason) if is_over and wait.reason in _HOPELESS_WAITS else None, wait.message


def _endings(pod: Manifest) -> Iterator[Manifest]:
    """How each container ended last, if it has."""
    for container in containers_of(pod):
        for state in (container.get("state"), container.get("lastState")):
            ended = (state or {}).get("terminated")
            if ended:
                yield ended
