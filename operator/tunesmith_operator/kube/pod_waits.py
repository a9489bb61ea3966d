"""Why an attempt does no work although it was started: facts of its Job and pod, for `advance`.

Every wait names its cause in the words of whoever knows it (the scheduler, the kubelet) and ends
with what a person can do. The pod itself says nearly everything; why its node does not get it ready
is in its Events alone, which are read once that has lasted.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_operator.kube.client import Manifest
from tunesmith_operator.kube.pods import (
    DISRUPTION,
    condition_of,
    containers_of,
    has_condition,
    taken_away,
    true_since,
)

# Seconds: an image or a secret may come late, and the kubelet goes on trying.
IMAGE_PATIENCE_S: Final = 600.0
CONFIG_PATIENCE_S: Final = 120.0
POD_GRACE_S: Final = 20.0
START_GRACE_S: Final = 120.0
SANDBOX_GRACE_S: Final = 30.0
GONE_GRACE_S: Final = 60.0
# Of Events nobody tells; they are read again after so many seconds at most.
EVENTS_S: Final = 60.0

_MAX_QUOTE: Final = 130
_PULLING: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"}
)
_NO_SUCH_SECRET: Final = re.compile(r'secret "(?P<name>[^"]+)" not found')
_MOUNT: Final = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_VOLUME_WORDS: Final = ("persistentvolumeclaim", "PersistentVolumeClaim")


def waiting_of(
    stage: str,
    job: Manifest,
    pods: list[Manifest],
    warnings: Sequence[Manifest] | None = None,
    *,
    let_in: datetime | None = None,
) -> Waiting | None:
    """What the attempt of `stage` waits for; None if its container runs.

    `warnings` are the Events of the pod that `unready` has named; None if it named none. `let_in`
    is when its queue let it run, for as long as the Job says nothing of it.
    """
    if job.get("spec", {}).get("suspend"):
        return suspended(stage, job, since=true_since(job, "Suspended") or created_at(job))
    if not pods:
        return _without_pod(stage, job, let_in)
    return wait_of_pod(stage, pods[-1], warnings)


def unready(pods: list[Manifest], *, now: datetime) -> Manifest | None:
    """The first pod whose node should long have mounted its volumes and set up its network."""
    limit = now - timedelta(seconds=SANDBOX_GRACE_S)
    return next((each for each in pods if _is_unready(each) and _placed_at(each) <= limit), None)


def _is_unready(pod: Manifest) -> bool:
    sandbox = condition_of(pod, "PodReadyToStartContainers") or {}
    is_placed = has_condition(pod, "PodScheduled")
    return (
        pod["status"].get("phase") == "Pending" and is_placed and sandbox.get("status") == "False"
    )


def _placed_at(pod: Manifest) -> datetime:
    scheduled = condition_of(pod, "PodScheduled") or {}
    return time_of(scheduled.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def suspended(stage: str, child: Manifest, *, since: datetime) -> Waiting:
    """Somebody else did so: what is in no queue is never made suspended."""
    name = f"{child['kind']} {child['metadata']['name']}"
    message = (
        f"{stage} has no pod: somebody suspended {name}; "
        "set its spec.suspend to false, and it goes on"
    )
    return Waiting(Reason.POD_NOT_CREATED, message, since, grace_s=0.0)


def _without_pod(stage: str, job: Manifest, let_in: datetime | None) -> Waiting:
    """It counts from when the Job could have a pod, which may have been long in a queue."""
    name = job["metadata"]["name"]
    message = (
        f"{stage} has no pod: the cluster made none for Job {name}; "
        f"`kubectl describe job {name}` shows why (quota, pod security)"
    )
    started = (job.get("status") or {}).get("startTime")
    known = (created_at(job), time_of(started) if started else None, let_in)
    since = max(each for each in known if each is not None)
    return Waiting(Reason.POD_NOT_CREATED, message, since, grace_s=POD_GRACE_S)


def wait_of_pod(
    stage: str, pod: Manifest, warnings: Sequence[Manifest] | None = None
) -> Waiting | None:
    """What this pod waits for, in the name of `stage`; None if its container runs."""
    taken_by = taken_away(pod)
    if taken_by is not None:
        message = f"{stage} is taken off its node, and goes on in another pod by itself"
        hint = if_dead(pod) if taken_by is Reason.NODE_LOST else ""
        return Waiting(taken_by, message + hint, taken_at(pod), grace_s=0.0)
    if pod.get("status", {}).get("phase") != "Pending":
        return _not_gone(stage, pod)
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled is None:
        return _unseen(stage, pod)
    since = _placed_at(pod)
    if scheduled["status"] != "True":
        return _unscheduled(stage, scheduled, since)
    return _on_node(stage, pod, since, warnings)


def _on_node(
    stage: str, pod: Manifest, since: datetime, warnings: Sequence[Manifest] | None
) -> Waiting:
    for container in containers_of(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        found = _held_up(stage, waiting, container.get("image", ""), since)
        if found is not None:
            return found
    if _is_unready(pod):
        return _unready(stage, pod, since, warnings)
    return _not_started(stage, pod, since)


def _not_gone(stage: str, pod: Manifest) -> Waiting | None:
    """A pod that was deleted ends soon after, unless its node is not there to end it."""
    deleted_at = pod["metadata"].get("deletionTimestamp")
    if pod["status"].get("phase") != "Running" or not deleted_at:
        return None
    message = f"{stage}: its pod {pod['metadata']['name']} was deleted, and does not go"
    since = time_of(deleted_at)
    return Waiting(Reason.POD_NOT_GONE, message + if_dead(pod), since, grace_s=GONE_GRACE_S)


def if_dead(pod: Manifest) -> str:
    """What a person can do where a pod cannot end, since nobody is there to end it."""
    node = pod.get("spec", {}).get("nodeName", "")
    return f"; if node {node} is dead, delete it from the cluster"


def _volume_remedy(said: str) -> str:
    if "not found" in said:
        return (
            "Create that claim; one that the operator made took its artifacts along: make a new job"
        )
    return "Bind that claim, or name another"


def _unseen(stage: str, pod: Manifest) -> Waiting:
    name = pod["metadata"]["name"]
    message = f"{stage}: no scheduler has looked at pod {name} yet; see that one runs"
    return Waiting(Reason.POD_NOT_STARTED, message, created_at(pod), grace_s=START_GRACE_S)


def _unscheduled(stage: str, scheduled: Manifest, since: datetime) -> Waiting:
    said = quoted(scheduled.get("message", ""))
    if scheduled.get("reason") != "Unschedulable":
        message = f"{stage}: its pod is held from the scheduler ({scheduled.get('reason')}): {said}"
        return Waiting(Reason.POD_NOT_STARTED, message, since, grace_s=POD_GRACE_S)
    if any(word in said for word in _VOLUME_WORDS):
        message = f"{stage} waits for its volume: {said}. {_volume_remedy(said)}"
        return Waiting(Reason.VOLUME_UNAVAILABLE, message, since)
    message = f"{stage} fits on no node: {said}. Ask for less, or add such a node"
    return Waiting(Reason.UNSCHEDULABLE, message, since)


def _held_up(stage: str, waiting: Manifest, image: str, since: datetime) -> Waiting | None:
    reason, said = waiting.get("reason", ""), quoted(waiting.get("message", ""))
    if reason == "InvalidImageName":
        message = f"{stage}: {image} is no name of an image; give the operator another"
        return Waiting(Reason.IMAGE_PULL_FAILED, message, since, grace_s=0.0, patience_s=0.0)
    if reason in _PULLING:
        # The kubelet's words change from try to try, and would be written each time.
        message = (
            f"{stage}: image {image} cannot be pulled ({reason}); "
            "check its name and that the nodes may pull it"
        )
        return Waiting(Reason.IMAGE_PULL_FAILED, message, since, patience_s=IMAGE_PATIENCE_S)
    if not reason.endswith("Error"):
        return None
    secret = _NO_SUCH_SECRET.search(said)
    if secret:
        message = f"{stage} needs Secret {secret['name']}, which is not there; create it"
        return Waiting(Reason.SECRET_NOT_FOUND, message, since, patience_s=CONFIG_PATIENCE_S)
    message = f"{stage}: its container cannot be started ({reason}): {said}"
    return Waiting(Reason.POD_NOT_STARTED, message, since, patience_s=IMAGE_PATIENCE_S)


def _said_last(pod: Manifest, warnings: Sequence[Manifest]) -> Manifest | None:
    """What was last found wrong with this pod; of older words nobody knows whether they hold.

    It has its node, so what the scheduler said is past.
    """
    uid = pod["metadata"]["uid"]
    about = [
        each
        for each in warnings
        if each["involvedObject"].get("uid") == uid and each.get("reason") != "FailedScheduling"
    ]
    return max(about, key=_heard_at, default=None)


def _heard_at(event: Manifest) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    # Some have fractions of a second, which sort behind the zone.
    return next((str(each)[:19] for each in times if each), "")


def _not_ready(stage: str, event: Manifest, since: datetime) -> Waiting:
    """What an Event says may be over by now, so the job is not given up for it."""
    said, why = quoted(event.get("message", "")), event.get("reason", "")
    secret = _NO_SUCH_SECRET.search(said)
    if why not in _MOUNT:
        reason = Reason.POD_NOT_STARTED
        message = f"{stage}: its node cannot get the pod ready ({why}): {said}; mend that node"
    elif secret:
        reason = Reason.SECRET_NOT_FOUND
        message = f"{stage} needs Secret {secret['name']}, which is not there; create it"
    else:
        reason = Reason.VOLUME_UNAVAILABLE
        message = f"{stage}: its node cannot mount a volume: {said}. Mend or create what it names"
    return Waiting(reason, message, since, grace_s=SANDBOX_GRACE_S)


def _unready(
    stage: str, pod: Manifest, since: datetime, warnings: Sequence[Manifest] | None
) -> Waiting:
    """What exactly its node waits for, the kubelet says in Events alone, and there only later."""
    again_s = None if warnings is None else EVENTS_S
    said = _said_last(pod, warnings or ())
    if said is not None:
        return replace(_not_ready(stage, said, since), again_s=again_s)
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "")
    message = (
        f"{stage}: node {node} has not mounted its volumes or set up its network yet; "
        f"`kubectl describe pod {name}` shows which"
    )
    reason = Reason.POD_NOT_STARTED
    return Waiting(reason, message, since, grace_s=SANDBOX_GRACE_S, again_s=again_s)


def _not_started(stage: str, pod: Manifest, since: datetime) -> Waiting:
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "")
    message = (
        f"{stage}: its container on node {node} is not started yet; "
        f"`kubectl describe pod {name}` shows why (image, volumes)"
    )
    return Waiting(Reason.POD_NOT_STARTED, message, since, grace_s=START_GRACE_S)


def quoted(message: str) -> str:
    """The words of others, on one line and not too long."""
    text = " ".join(message.split()).rstrip(".")
    return text if len(text) <= _MAX_QUOTE else f"{text[: _MAX_QUOTE - 1]}…"


def taken_at(pod: Manifest) -> datetime:
    """Since when the cluster takes this pod away."""
    told = condition_of(pod, DISRUPTION) or {}
    return time_of(told.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def created_at(found: Manifest) -> datetime:
    """When the object was made."""
    return time_of(found["metadata"]["creationTimestamp"])


def time_of(text: str) -> datetime:
    """A time as the API server writes it."""
    return datetime.fromisoformat(text)
