"""Why a pod does no work although it was asked for: facts of the pod, for `advance`.

Every wait names its cause in the words of whoever knows it (the scheduler, the kubelet) and ends
with what a person can do. The pod itself says nearly everything; why its node does not get it ready
is in its Events alone, which are read once that has lasted (`pods.overdue_pod`).

A wait has a grace, within which the status says nothing of it, since most end by themselves, and
sometimes a timeout, after which the job fails: none where time or other people can mend it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_operator.kube.objects import (
    Manifest,
    condition_of,
    created_at,
    quoted,
    status_of,
    time_of,
)
from tunesmith_operator.kube.pods import (
    SANDBOX_GRACE_S,
    containers_of,
    is_sandbox_missing,
    scheduled_at,
    taken_away_at,
    taken_away_by,
)

# Seconds: an image or a secret may come late, and the kubelet goes on trying.
IMAGE_TIMEOUT_S: Final = 600.0
CONFIG_TIMEOUT_S: Final = 120.0
POD_GRACE_S: Final = 20.0
# As long as a large image takes, whose pulling no condition tells of.
START_GRACE_S: Final = 120.0
# More than the 30 s that a pod has to end by itself.
GONE_GRACE_S: Final = 60.0
# Of Events nobody tells; they are read again after so many seconds at most.
EVENTS_S: Final = 60.0

# As much as people read between our own words before and after the quote.
MAX_QUOTE: Final = 130
_PULLING: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"}
)
_NO_SUCH_SECRET: Final = re.compile(r'secret "(?P<name>[^"]+)" not found')
_MOUNT: Final = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
# The scheduler spells it both ways, by which of its plugins found the volume missing.
_VOLUME_WORDS: Final = ("persistentvolumeclaim", "PersistentVolumeClaim")
# As much of a time as is alike with and without fractions of a second.
_UP_TO_SECONDS: Final = 19


def wait_of_pod(
    subject: str, pod: Manifest, warnings: Sequence[Manifest] | None = None
) -> Waiting | None:
    """What this pod waits for, in the name of `subject`; None if its container runs.

    `warnings` are the Events of the pod, None if they were not read.
    """
    taken_by = taken_away_by(pod)
    if taken_by is not None:
        message = f"{subject} is taken off its node, and goes on in another pod by itself"
        hint = if_node_is_dead(pod) if taken_by is Reason.NODE_LOST else ""
        return Waiting(taken_by, message + hint, taken_away_at(pod), grace_s=0.0)
    if status_of(pod).get("phase") != "Pending":
        return _deleted_and_not_gone(subject, pod)
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled is None:
        name = pod["metadata"]["name"]
        message = f"{subject}: no scheduler has looked at pod {name} yet; see that one runs"
        return Waiting(Reason.POD_NOT_STARTED, message, created_at(pod), grace_s=START_GRACE_S)
    if scheduled["status"] != "True":
        return _unscheduled(subject, scheduled, scheduled_at(pod))
    return _held_by_kubelet(subject, pod) or _not_started(subject, pod, warnings)


def suspended_by_somebody(subject: str, child: Manifest, *, since: datetime) -> Waiting:
    """A child in no queue is never made suspended, so somebody else has done so."""
    name = f"{child['kind']} {child['metadata']['name']}"
    message = (
        f"{subject} has no pod: somebody suspended {name}; "
        "set its spec.suspend to false, and it goes on"
    )
    return Waiting(Reason.POD_NOT_CREATED, message, since, grace_s=0.0)


def if_node_is_dead(pod: Manifest) -> str:
    """What a person can do where a pod cannot end, since nobody is there to end it."""
    node = pod.get("spec", {}).get("nodeName", "")
    return f"; if node {node} is dead, delete it from the cluster"


def _deleted_and_not_gone(subject: str, pod: Manifest) -> Waiting | None:
    """A pod that was deleted ends soon after, unless its node is not there to end it."""
    deleted_at = pod["metadata"].get("deletionTimestamp")
    if status_of(pod).get("phase") != "Running" or not deleted_at:
        return None
    message = f"{subject}: its pod {pod['metadata']['name']} was deleted, and does not go"
    return Waiting(
        Reason.POD_NOT_GONE,
        message + if_node_is_dead(pod),
        time_of(deleted_at),
        grace_s=GONE_GRACE_S,
    )


def _unscheduled(subject: str, scheduled: Manifest, since: datetime) -> Waiting:
    said = quoted(scheduled.get("message", ""), at_most=MAX_QUOTE)
    # Scheduling gates, for one: somebody keeps the pod from the scheduler, which has not judged.
    if scheduled.get("reason") != "Unschedulable":
        held = f"its pod is held from the scheduler ({scheduled.get('reason')}): {said}"
        message = f"{subject}: {held}"
        return Waiting(Reason.POD_NOT_STARTED, message, since, grace_s=POD_GRACE_S)
    if not any(word in said for word in _VOLUME_WORDS):
        message = f"{subject} fits on no node: {said}. Ask for less, or add such a node"
        return Waiting(Reason.UNSCHEDULABLE, message, since)
    remedy = "Bind that claim, or name another"
    if "not found" in said:
        remedy = (
            "Create that claim; one that the operator made took its artifacts along: make a new job"
        )
    message = f"{subject} waits for its volume: {said}. {remedy}"
    return Waiting(Reason.VOLUME_UNAVAILABLE, message, since)


def _held_by_kubelet(subject: str, pod: Manifest) -> Waiting | None:
    """The first container that its kubelet tries to start, and cannot."""
    for container in containers_of(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        wait = _held_container(subject, waiting, container.get("image", ""), scheduled_at(pod))
        if wait is not None:
            return wait
    return None


def _held_container(subject: str, waiting: Manifest, image: str, since: datetime) -> Waiting | None:
    reason, said = waiting.get("reason", ""), quoted(waiting.get("message", ""), at_most=MAX_QUOTE)
    if reason == "InvalidImageName":
        message = f"{subject}: {image} is no name of an image; correct the chart's values images"
        return Waiting(Reason.IMAGE_PULL_FAILED, message, since, grace_s=0.0, timeout_s=0.0)
    if reason in _PULLING:
        # Without the kubelet's words, which change from try to try: each is a write of the status.
        message = (
            f"{subject}: image {image} cannot be pulled; correct its name in the chart's values "
            "images, or name a secret that may pull it in resources.imagePullSecrets"
        )
        return Waiting(Reason.IMAGE_PULL_FAILED, message, since, timeout_s=IMAGE_TIMEOUT_S)
    # ContainerCreating and PodInitializing are on their way, and all that fails ends so.
    if not reason.endswith("Error"):
        return None
    secret = _NO_SUCH_SECRET.search(said)
    if secret:
        message = f"{subject} needs Secret {secret['name']}, which is not there; create it"
        return Waiting(Reason.SECRET_NOT_FOUND, message, since, timeout_s=CONFIG_TIMEOUT_S)
    message = f"{subject}: its container cannot be started ({reason}): {said}"
    return Waiting(Reason.POD_NOT_STARTED, message, since, timeout_s=IMAGE_TIMEOUT_S)


def _not_started(subject: str, pod: Manifest, warnings: Sequence[Manifest] | None) -> Waiting:
    """A pod on its node in which nothing runs yet, and nothing is known to have failed."""
    since = scheduled_at(pod)
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "")
    if not is_sandbox_missing(pod):
        message = (
            f"{subject}: its container on node {node} is not started yet; "
            f"`kubectl describe pod {name}` shows why (image, volumes)"
        )
        return Waiting(Reason.POD_NOT_STARTED, message, since, grace_s=START_GRACE_S)
    # What exactly its node waits for, the kubelet says in Events alone, and there only later:
    # without a word yet they are worth another read, and unread ones are not.
    recheck_s = None if warnings is None else EVENTS_S
    event = _newest_warning(pod, warnings or ())
    if event is not None:
        return replace(_sandbox_wait(subject, event, since), recheck_s=recheck_s)
    message = (
        f"{subject}: node {node} has not mounted its volumes or set up its network yet; "
        f"`kubectl describe pod {name}` shows which"
    )
    reason = Reason.POD_NOT_STARTED
    return Waiting(reason, message, since, grace_s=SANDBOX_GRACE_S, recheck_s=recheck_s)


def _newest_warning(pod: Manifest, warnings: Sequence[Manifest]) -> Manifest | None:
    """What was last found wrong with this pod; of older words nobody knows whether they hold."""
    uid = pod["metadata"]["uid"]
    # It has its node, so what the scheduler said is past.
    of_kubelet = [
        event
        for event in warnings
        if event["involvedObject"].get("uid") == uid and event.get("reason") != "FailedScheduling"
    ]
    return max(of_kubelet, key=_last_observed, default=None)


def _last_observed(event: Manifest) -> str:
    # Which of the three is set depends on the API by which its writer records Events, and on
    # whether it was a repetition.
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    # Some have fractions of a second, which sort behind the zone.
    return next((str(time)[:_UP_TO_SECONDS] for time in times if time), "")


def _sandbox_wait(subject: str, event: Manifest, since: datetime) -> Waiting:
    # No timeout: what an Event says may be over by now, so no job is given up for it.
    said, why = quoted(event.get("message", ""), at_most=MAX_QUOTE), event.get("reason", "")
    secret = _NO_SUCH_SECRET.search(said)
    if why not in _MOUNT:
        reason = Reason.POD_NOT_STARTED
        message = f"{subject}: its node cannot get the pod ready ({why}): {said}; mend that node"
    elif secret:
        reason = Reason.SECRET_NOT_FOUND
        message = f"{subject} needs Secret {secret['name']}, which is not there; create it"
    else:
        reason = Reason.VOLUME_UNAVAILABLE
        message = f"{subject}: its node cannot mount a volume: {said}. Mend or create what it names"
    return Waiting(reason, message, since, grace_s=SANDBOX_GRACE_S)
