"""A RayJob of KubeRay, a head and its workers, as the child of an attempt.

A RayJob has no conditions: `jobDeploymentStatus` is where KubeRay stands with it, `jobStatus` how
the stage itself ended. KubeRay replaces a pod that is lost, and starts the stage again in a new
head: the attempt goes on, from its last checkpoint. So a pod that ended badly is here a wait, where
in a batch Job it is the end.
"""

import re
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_engine.stages.termination_message import termination_message
from tunesmith_operator.kube.child_kind import ENDED_PHASES, AttemptTimes, ChildState
from tunesmith_operator.kube.kueue import has_left_queue
from tunesmith_operator.kube.objects import (
    Manifest,
    created_at,
    label_of,
    quoted,
    status_of,
    time_of,
)
from tunesmith_operator.kube.pod_waits import (
    GONE_GRACE_S,
    MAX_QUOTE,
    POD_GRACE_S,
    if_node_is_dead,
    suspended_by_somebody,
    wait_of_pod,
)
from tunesmith_operator.kube.pods import (
    PodTermination,
    containers_of,
    run_of,
    taken_away_at,
    taken_away_by,
)
from tunesmith_operator.kube.resources import RAY_JOB as RAY_JOB_RESOURCE

# KubeRay labels its pods with the RayCluster, whose name it makes up anew after each suspension.
# This one is put into the pod templates by whoever makes a RayJob, with the RayJob's name.
POD_LABEL: Final = "tunesmith.dev/attempt"
NODE_TYPE: Final = "ray.io/node-type"
HEAD: Final = "head"
CLUSTER: Final = "ray.io/cluster"

# Seconds. KubeRay was seen to look at a RayJob that is suspended every 20 s, whatever is changed.
UNREACHABLE_GRACE_S: Final = 30.0
WAKE_GRACE_S: Final = 30.0

# Without the first KubeRay makes a submitter that restricted namespaces refuse, without the second
# it starts a failed stage again by itself.
_NEEDED: Final = frozenset({"submissionMode", "backoffLimit"})

_EXIT_CODE: Final = re.compile(r"exit code (?P<code>-?\d+)")
_OF_RAY: Final = re.compile(r"^Running entrypoint for job |\bjob_manager\.py:")
_ASLEEP: Final = frozenset({"", "Suspended", "Suspending"})


class RayJob:
    """What a RayJob and its pods tell of an attempt."""

    resource = RAY_JOB_RESOURCE
    pod_label = POD_LABEL
    unread_spec = frozenset({"rayClusterSpec", "submitterPodTemplate"})

    def has_succeeded(self, child: Manifest) -> bool:
        """Whether the stage ended well, and KubeRay has taken note of it."""
        # NB: SUCCEEDED comes first, while the cluster still runs and nothing is cleaned up.
        status = status_of(child)
        return (status.get("jobDeploymentStatus"), status.get("jobStatus")) == (
            "Complete",
            "SUCCEEDED",
        )

    def has_failed(self, child: Manifest) -> bool:
        """Whether KubeRay is done with it, without success."""
        # A stage that was stopped is Complete as well, and one over its deadline is Failed while
        # jobStatus still says RUNNING.
        return _deployment(child) in {"Complete", "Failed"} and not self.has_succeeded(child)

    def is_asleep(self, child: Manifest) -> bool:
        """Whether KubeRay has not begun with it, or not again: its words are of an earlier run."""
        return _deployment(child) in _ASLEEP

    def termination(self, state: ChildState) -> PodTermination | None:
        """Why it failed, in what is left of it once its pods are gone."""
        # The head goes on until SIGKILL, 30 s after the end; an attempt that began beside it would
        # share the workspace with what still runs.
        if not self.has_failed(state.child) or _remaining(state.pods):
            return None
        status = status_of(state.child)
        reason, message = status.get("reason", ""), status.get("message", "")
        if reason == "AppFailed":
            code = _EXIT_CODE.search(quoted(message, at_most=MAX_QUOTE))
            # KubeRay's own first line, then the end of the log; what Ray wrote there says nothing.
            words = termination_message(message.partition("\n")[2])
            return PodTermination(
                exit_code=int(code["code"]) if code else None,
                termination_message="" if _OF_RAY.search(words) else words,
            )
        if reason == "JobStatusCheckTimeoutExceeded":
            return PodTermination(cause=Reason.NODE_LOST)
        words = f"KubeRay says {reason}: {quoted(message, at_most=MAX_QUOTE)}"
        if not reason:
            words = f"its job in Ray was stopped ({status.get('jobStatus', '')})"
        return PodTermination(cause=Reason.KILLED, termination_message=words)

    def waiting(self, subject: str, state: ChildState) -> Waiting | None:
        """What it waits for: KubeRay itself, its pods, or pods that are missing."""
        rayjob, deployment = state.child, _deployment(state.child)
        unfit = _unfit_kuberay(subject, rayjob)
        if unfit is not None:
            return unfit
        if self.has_failed(rayjob):
            return _leftover(subject, state.pods)
        if rayjob["spec"].get("suspend"):
            # Nobody says since when, so it counts from now.
            return suspended_by_somebody(subject, rayjob, since=state.now)
        pods = _pods_of_run(rayjob, state.pods)
        wait = _wait_of_pods(subject, pods, state)
        if wait is None and deployment == "Running":
            wait = _unreachable(subject, rayjob)
        if wait is not None or len(pods) >= state.num_pods:
            return wait
        if deployment == "Running":
            return _shrunk(subject, pods, state)
        return _too_few(subject, pods, state, is_asleep=self.is_asleep(rayjob))

    def times(self, state: ChildState) -> AttemptTimes:
        """Its times: it begins with the first of its pods."""
        rayjob, status = state.child, status_of(state.child)
        runs = (run_of(pod).began for pod in _pods_of_run(rayjob, state.pods))
        starts = [began for began in runs if began is not None]
        by_ray, started, ended = (
            time_of(text) if text else None
            for text in (
                (status.get("rayJobInfo") or {}).get("startTime"),
                # KubeRay gives one that is suspended a start time, too, and the next only once it
                # goes on with it; until then its queue alone knows when it let it run.
                None if self.is_asleep(rayjob) else status.get("startTime"),
                status.get("endTime"),
            )
        )
        admitted = state.admitted or started
        return AttemptTimes(
            admitted if has_left_queue(rayjob) else None, min(starts, default=by_ray), ended
        )

    def log_command(self, child: Manifest) -> str:
        """How a person reads what KubeRay says; the log itself goes with the pods."""
        name, namespace = child["metadata"]["name"], child["metadata"]["namespace"]
        return f"kubectl describe -n {namespace} rayjob/{name}"


RAY_JOB: Final = RayJob()


def _unfit_kuberay(subject: str, rayjob: Manifest) -> Waiting | None:
    """A KubeRay that refuses the RayJob, or whose definition dropped what was asked for."""
    # Every KubeRay has an entrypoint; without it nothing is known of what was asked for.
    dropped = sorted(_NEEDED - rayjob["spec"].keys()) if "entrypoint" in rayjob["spec"] else []
    if dropped:
        unfit = f"has a RayJob with no {' and no '.join(dropped)}, which {subject} needs"
    elif _deployment(rayjob) == "ValidationFailed":
        said = quoted(status_of(rayjob).get("message", ""), at_most=MAX_QUOTE)
        unfit = f"refuses the RayJob of {subject}: {said}"
    else:
        return None
    message = f"KubeRay {unfit}. Upgrade it, or take workers: 1"
    return Waiting(Reason.INVALID_SPEC, message, created_at(rayjob), grace_s=0.0, timeout_s=0.0)


def _wait_of_pods(subject: str, pods: list[Manifest], state: ChildState) -> Waiting | None:
    """What the pods wait for that count, the head's word before the workers'."""
    # On a node that is lost a pod stays for ever, though another has long been in its place.
    staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    counting = staying if len(staying) >= state.num_pods else pods
    head_first = sorted(counting, key=lambda pod: not _is_head(pod))
    possible = [_wait_of_pod(subject, pod, state) for pod in head_first]
    waits = [wait for wait in possible if wait is not None]
    # A worker's container does not start before the head answers: the cause is told first.
    telling = (wait for wait in waits if wait.reason is not Reason.POD_NOT_STARTED)
    return next(telling, waits[0] if waits else None)


def _wait_of_pod(subject: str, pod: Manifest, state: ChildState) -> Waiting | None:
    who = f"the head of {subject}" if _is_head(pod) else f"a worker of {subject}"
    again = "KubeRay replaces it, and training goes on from its last checkpoint"
    taken_by = taken_away_by(pod)
    if taken_by is not None:
        hint = if_node_is_dead(pod) if taken_by is Reason.NODE_LOST else ""
        message = f"{who} is taken off its node; {again}{hint}"
        return Waiting(taken_by, message, taken_away_at(pod), grace_s=0.0)
    for container in containers_of(pod):
        ended = container.get("state", {}).get("terminated")
        # An init container of KubeRay's that ended with 0 has done what it is for.
        if ended and (ended.get("exitCode") or status_of(pod).get("phase") in ENDED_PHASES):
            since = time_of(ended["finishedAt"]) if ended.get("finishedAt") else created_at(pod)
            if ended.get("reason") == "OOMKilled":
                message = f"{who} was killed for want of memory; {again}"
                return Waiting(Reason.HOST_OOM_KILLED, message, since, grace_s=0.0)
            message = f"{who} ended with exit code {ended.get('exitCode')}; {again}"
            return Waiting(Reason.KILLED, message, since)
    if pod["metadata"].get("deletionTimestamp"):
        since = time_of(pod["metadata"]["deletionTimestamp"])
        message = f"{who} was deleted; {again}{if_node_is_dead(pod)}"
        return Waiting(Reason.POD_DELETED, message, since)
    return _told_from_affinity(wait_of_pod(who, pod, state.warnings), pod)


def _told_from_affinity(wait: Waiting | None, pod: Manifest) -> Waiting | None:
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


def _leftover(subject: str, pods: list[Manifest]) -> Waiting | None:
    left = _remaining(pods)
    if not left:
        return None
    name = left[0]["metadata"]["name"]
    message = (
        f"the last attempt of {subject} is over, but its pod {name} is still there; "
        "see that KubeRay's operator runs, or delete the pod"
    )
    return Waiting(Reason.POD_NOT_GONE, message, created_at(left[0]), grace_s=GONE_GRACE_S)


def _unreachable(subject: str, rayjob: Manifest) -> Waiting | None:
    since = status_of(rayjob).get("jobStatusCheckFailureStartTime")
    if not since:
        return None
    message = (
        f"KubeRay does not reach the head of {subject}; it gives up after some minutes, "
        "and the next attempt goes on from the last checkpoint"
    )
    return Waiting(Reason.NODE_LOST, message, time_of(since), grace_s=UNREACHABLE_GRACE_S)


def _shrunk(subject: str, pods: list[Manifest], state: ChildState) -> Waiting:
    """Pods of a training that ran are gone; nobody says since when, so it counts from now."""
    cluster = status_of(state.child).get("rayClusterName")
    message = (
        f"{subject} has {len(pods)} of its {state.num_pods} pods left, and KubeRay has not "
        "replaced the others; see that its operator "
        f"runs; `kubectl describe raycluster {cluster}` shows more"
    )
    return Waiting(Reason.POD_NOT_CREATED, message, state.now, grace_s=0.0)


def _too_few(subject: str, pods: list[Manifest], state: ChildState, *, is_asleep: bool) -> Waiting:
    """Pods of a training that has not begun are missing."""
    status = status_of(state.child)
    name, cluster = state.child["metadata"]["name"], status.get("rayClusterName")
    if cluster:
        message = (
            f"{subject} lacks pods: the cluster has made {len(pods)} for RayCluster {cluster}; "
            f"`kubectl describe raycluster {cluster}` shows why (quota, pod security)"
        )
    else:
        message = (
            f"{subject} has no pod: KubeRay has not taken up RayJob {name}; "
            "see that its operator runs and watches this namespace"
        )
    # From when on they are to be expected: it may have been in a queue long before.
    started = None if is_asleep else status.get("startTime")
    expected = (created_at(state.child), time_of(started) if started else None, state.admitted)
    times = [time for time in expected if time is not None]
    since = max([*times, *(created_at(pod) for pod in pods)])
    grace_s = WAKE_GRACE_S if is_asleep else POD_GRACE_S
    return Waiting(Reason.POD_NOT_CREATED, message, since, grace_s=grace_s)


def _pods_of_run(rayjob: Manifest, pods: list[Manifest]) -> list[Manifest]:
    """Those of the cluster that it has now; what was preempted leaves pods that still go."""
    name = status_of(rayjob).get("rayClusterName") or ""
    return [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(CLUSTER, name) == name]


def _remaining(pods: list[Manifest]) -> list[Manifest]:
    """The pods that have not ended; the next attempt has to wait for them."""
    return [pod for pod in pods if status_of(pod).get("phase") not in ENDED_PHASES]


def _is_head(pod: Manifest) -> bool:
    return label_of(pod, NODE_TYPE) == HEAD


def _deployment(rayjob: Manifest) -> str:
    return str(status_of(rayjob).get("jobDeploymentStatus", ""))
