"""What a RayJob of KubeRay and its pods tell of an attempt, for `advance`.

As `pods.py` and `waits.py` do for a batch Job. A RayJob has no conditions: `jobDeploymentStatus` is
where KubeRay stands with it, `jobStatus` how the stage itself ended. KubeRay replaces a pod that is
lost, and starts the stage again in a new head: the attempt goes on, from its last checkpoint.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_engine.stages.termination_message import termination_message
from tunesmith_operator.kube.client import Manifest
from tunesmith_operator.kube.pod_waits import (
    GONE_GRACE_S,
    POD_GRACE_S,
    created_at,
    if_dead,
    quoted,
    suspended,
    taken_at,
    time_of,
    wait_of_pod,
)
from tunesmith_operator.kube.pods import PodEnding, containers_of, has_condition, taken_away

NODE_TYPE: Final = "ray.io/node-type"
HEAD: Final = "head"
CLUSTER: Final = "ray.io/cluster"

# Seconds. KubeRay was seen to look at a RayJob that is suspended every 20 s, whatever is changed.
UNREACHABLE_GRACE_S: Final = 30.0
WAKE_GRACE_S: Final = 30.0

_EXIT_CODE: Final = re.compile(r"exit code (?P<code>-?\d+)")
_OF_RAY: Final = re.compile(r"^Running entrypoint for job |\bjob_manager\.py:")
_CLOSED: Final = frozenset({"Succeeded", "Failed"})
_ASLEEP: Final = frozenset({"", "Suspended", "Suspending"})


def has_succeeded(rayjob: Manifest) -> bool:
    """Whether the stage ended well, and KubeRay has taken note of it."""
    status = _status(rayjob)
    return (status.get("jobDeploymentStatus"), status.get("jobStatus")) == ("Complete", "SUCCEEDED")


def has_failed(rayjob: Manifest) -> bool:
    """Whether KubeRay is done with it, without success."""
    return _state(rayjob) in {"Complete", "Failed"} and not has_succeeded(rayjob)


def is_over(child: Manifest) -> bool:
    """Whether a Job or RayJob has ended, well or not."""
    if child.get("kind") == "RayJob":
        return has_succeeded(child) or has_failed(child)
    return any(has_condition(child, each) for each in ("Complete", "Failed"))


def is_asleep(rayjob: Manifest) -> bool:
    """Whether KubeRay has not begun with it, or not again: what it says is of an earlier run."""
    return _state(rayjob) in _ASLEEP


def pods_of_run(rayjob: Manifest, pods: list[Manifest]) -> list[Manifest]:
    """Those of the cluster that it has now; what was preempted leaves pods that still go."""
    name = _status(rayjob).get("rayClusterName") or ""
    return [each for each in pods if _labels(each).get(CLUSTER, name) == name]


def remaining(pods: list[Manifest]) -> list[Manifest]:
    """The pods that have not ended; the next attempt has to wait for them."""
    return [each for each in pods if each.get("status", {}).get("phase") not in _CLOSED]


def ending_of_rayjob(rayjob: Manifest) -> PodEnding:
    """Why a RayJob failed, in what is left of it once its pods are gone."""
    status = _status(rayjob)
    reason, said = status.get("reason", ""), quoted(status.get("message", ""))
    if reason == "AppFailed":
        code = _EXIT_CODE.search(said)
        words = _words_of_log(status.get("message", ""))
        return PodEnding(exit_code=int(code["code"]) if code else None, termination_message=words)
    if reason == "JobStatusCheckTimeoutExceeded":
        return PodEnding(cause=Reason.NODE_LOST)
    if not reason:
        words = f"its job in Ray was stopped ({status.get('jobStatus', '')})"
        return PodEnding(cause=Reason.KILLED, termination_message=words)
    return PodEnding(cause=Reason.KILLED, termination_message=f"KubeRay says {reason}: {said}")


def _words_of_log(message: str) -> str:
    """What the log ends with that KubeRay quotes, unless it is Ray's own."""
    words = termination_message(message.partition("\n")[2])
    return "" if _OF_RAY.search(words) else words


def waiting_of_rayjob(
    stage: str,
    rayjob: Manifest,
    pods: list[Manifest],
    *,
    num_pods: int,
    now: datetime,
    warnings: Sequence[Manifest] | None = None,
    let_in: datetime | None = None,
) -> Waiting | None:
    """What the attempt waits for, which has `num_pods` pods when it is whole; None if it runs.

    `warnings` are the Events of the pod that `unready` has named; None if it named none. `let_in`
    is when its queue let it run, for as long as KubeRay has not begun.
    """
    state = _state(rayjob)
    if state == "ValidationFailed":
        return _refused(stage, rayjob)
    if has_failed(rayjob):
        return _leftover(stage, pods)
    if rayjob["spec"].get("suspend"):
        # Nobody says since when, so it counts from now.
        return suspended(stage, rayjob, since=now)
    pods = pods_of_run(rayjob, pods)
    counting = _without_replaced(pods, num_pods)
    found = (_wait_of(stage, pod, warnings) for pod in _head_first(counting))
    waits = [each for each in found if each is not None]
    if waits:
        telling = (each for each in waits if each.reason is not Reason.POD_NOT_STARTED)
        return next(telling, waits[0])
    unreachable = _unreachable(stage, rayjob) if state == "Running" else None
    if unreachable is not None or len(pods) >= num_pods:
        return unreachable
    shrunk = _shrunk(stage, rayjob, f"{len(pods)} of its {num_pods} pods", now=now)
    return shrunk if state == "Running" else _too_few(stage, rayjob, pods, let_in=let_in)


def _refused(stage: str, rayjob: Manifest) -> Waiting:
    said = quoted(_status(rayjob).get("message", ""))
    message = f"KubeRay refuses the RayJob of {stage}: {said}. Upgrade it, or take workers: 1"
    since = created_at(rayjob)
    return Waiting(Reason.INVALID_SPEC, message, since, grace_s=0.0, patience_s=0.0)


def _leftover(stage: str, pods: list[Manifest]) -> Waiting | None:
    left = remaining(pods)
    if not left:
        return None
    name = left[0]["metadata"]["name"]
    message = (
        f"the last attempt of {stage} is over, but its pod {name} is still there; "
        "see that KubeRay's operator runs, or delete the pod"
    )
    return Waiting(Reason.POD_NOT_GONE, message, created_at(left[0]), grace_s=GONE_GRACE_S)


def _without_replaced(pods: list[Manifest], num_pods: int) -> list[Manifest]:
    """The pods that count: on a node that is lost a pod stays, though another is in its place."""
    staying = [each for each in pods if not each["metadata"].get("deletionTimestamp")]
    return staying if len(staying) >= num_pods else pods


def _wait_of(stage: str, pod: Manifest, warnings: Sequence[Manifest] | None) -> Waiting | None:
    who = f"the head of {stage}" if _is_head(pod) else f"a worker of {stage}"
    again = "KubeRay replaces it, and training goes on from its last checkpoint"
    taken_by = taken_away(pod)
    if taken_by is not None:
        hint = if_dead(pod) if taken_by is Reason.NODE_LOST else ""
        message = f"{who} is taken off its node; {again}{hint}"
        return Waiting(taken_by, message, taken_at(pod), grace_s=0.0)
    for container in containers_of(pod):
        ended = container.get("state", {}).get("terminated")
        if ended and (ended.get("exitCode") or pod["status"].get("phase") in _CLOSED):
            return _ended(f"{who} {{how}}; {again}", pod, ended)
    if pod["metadata"].get("deletionTimestamp"):
        since = time_of(pod["metadata"]["deletionTimestamp"])
        return Waiting(Reason.POD_DELETED, f"{who} was deleted; {again}{if_dead(pod)}", since)
    return _fitting(wait_of_pod(who, pod, warnings), pod)


def _ended(message: str, pod: Manifest, ended: Manifest) -> Waiting:
    since = time_of(ended["finishedAt"]) if ended.get("finishedAt") else created_at(pod)
    if ended.get("reason") == "OOMKilled":
        how = "was killed for want of memory"
        return Waiting(Reason.HOST_OOM_KILLED, message.format(how=how), since, grace_s=0.0)
    how = f"ended with exit code {ended.get('exitCode')}"
    return Waiting(Reason.KILLED, message.format(how=how), since)


def _fitting(wait: Waiting | None, pod: Manifest) -> Waiting | None:
    """A pod that has to be where the others are is told from one that fits nowhere at all."""
    affinity = pod.get("spec", {}).get("affinity") or {}
    if wait is None or wait.reason is not Reason.UNSCHEDULABLE or "podAffinity" not in affinity:
        return wait
    said = wait.message.partition(". Ask for less")[0]
    message = (
        f"{said}. A ReadWriteOnce workspace keeps all pods on one node: "
        "ask for less, or for ReadWriteMany"
    )
    return Waiting(wait.reason, message, wait.since)


def _unreachable(stage: str, rayjob: Manifest) -> Waiting | None:
    since = _status(rayjob).get("jobStatusCheckFailureStartTime")
    if not since:
        return None
    message = (
        f"KubeRay does not reach the head of {stage}; it gives up after some minutes, "
        "and the next attempt goes on from the last checkpoint"
    )
    return Waiting(Reason.NODE_LOST, message, time_of(since), grace_s=UNREACHABLE_GRACE_S)


def _shrunk(stage: str, rayjob: Manifest, left: str, *, now: datetime) -> Waiting:
    """Pods of a training that ran are gone; nobody says since when, so it counts from now."""
    message = (
        f"{stage} has {left} left, and KubeRay has not replaced the others; see that its operator "
        f"runs; `kubectl describe raycluster {_status(rayjob).get('rayClusterName')}` shows more"
    )
    return Waiting(Reason.POD_NOT_CREATED, message, now, grace_s=0.0)


def _too_few(
    stage: str, rayjob: Manifest, pods: list[Manifest], *, let_in: datetime | None
) -> Waiting:
    name, cluster = rayjob["metadata"]["name"], _status(rayjob).get("rayClusterName")
    if cluster:
        message = (
            f"{stage} lacks pods: the cluster has made {len(pods)} for RayCluster {cluster}; "
            f"`kubectl describe raycluster {cluster}` shows why (quota, pod security)"
        )
    else:
        message = (
            f"{stage} has no pod: KubeRay has not taken up RayJob {name}; "
            "see that its operator runs and watches this namespace"
        )
    since = max([_begun_at(rayjob, let_in), *(created_at(each) for each in pods)])
    grace_s = WAKE_GRACE_S if is_asleep(rayjob) else POD_GRACE_S
    return Waiting(Reason.POD_NOT_CREATED, message, since, grace_s=grace_s)


def _begun_at(rayjob: Manifest, let_in: datetime | None) -> datetime:
    """From when on its pods are to be expected: it may have been in a queue long before."""
    started = None if is_asleep(rayjob) else _status(rayjob).get("startTime")
    known = (created_at(rayjob), time_of(started) if started else None, let_in)
    return max(each for each in known if each is not None)


def _head_first(pods: list[Manifest]) -> list[Manifest]:
    return sorted(pods, key=lambda each: not _is_head(each))


def _is_head(pod: Manifest) -> bool:
    return _labels(pod).get(NODE_TYPE) == HEAD


def _labels(pod: Manifest) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}


def _state(rayjob: Manifest) -> str:
    return str(_status(rayjob).get("jobDeploymentStatus", ""))


def _status(rayjob: Manifest) -> Manifest:
    status: Manifest = rayjob.get("status") or {}
    return status
