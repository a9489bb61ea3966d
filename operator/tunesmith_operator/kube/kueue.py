"""What a child waits for in a queue of Kueue: facts of its Workload, for `advance`.

Kueue holds a child that names a queue suspended until it is its turn, and says why in a Workload
that the child owns; the child itself says only that it is suspended. Every wait quotes Kueue where
its words tell more, and ends with what a person can do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_operator.kube.objects import (
    Manifest,
    condition_of,
    created_at,
    has_condition,
    label_of,
    owners_of,
    quoted,
    time_of,
    true_since,
)

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"

# Seconds. A turn changes the child, of which the operator hears; another reason does not.
RECHECK_S: Final = 60.0
UNKNOWN_GRACE_S: Final = 20.0

# Less than of a pod's words: the name of the queue stands in the message, too.
_MAX_QUOTE: Final = 100


@dataclass(frozen=True, slots=True)
class _QueueWait:
    """A reason, and its message with the places `subject`, `queue`, `said` and `name`."""

    reason: Reason
    message: str
    grace_s: float = 3.0


_TURN: Final = _QueueWait(
    Reason.WAITING_FOR_QUOTA,
    "{subject} waits in queue {queue}: {said}. It starts by itself when quota is free",
)
_TOO_LARGE: Final = _QueueWait(
    Reason.EXCEEDS_MAX_QUOTA,
    "{subject} asks for more than queue {queue} ever gives: {said}. "
    "Ask for less in a new job, or raise the quota",
)
_NO_QUEUE: Final = _QueueWait(
    Reason.QUEUE_NOT_FOUND,
    "{subject} cannot wait in queue {queue}: {said}. Create it, or name another in a new job",
)
_STOPPED: Final = _QueueWait(
    Reason.QUEUE_STOPPED,
    "{subject} waits in queue {queue}, which lets nothing in: {said}. "
    "It goes on when that is undone",
)
_SWITCHED_OFF: Final = _QueueWait(
    Reason.WORKLOAD_DEACTIVATED,
    "{subject} was taken out of queue {queue}: {said}. "
    "Set spec.active: true in Workload {name} to let it in again",
)
_NO_FLAVOR: Final = _QueueWait(
    Reason.UNSCHEDULABLE,
    "{subject} fits no flavor of queue {queue}: {said}. Ask for other nodes, or add such a flavor",
)
_NOT_ADMITTED: Final = _QueueWait(
    Reason.ADMISSION_PENDING, "{subject} waits in queue {queue} for its admission: {said}"
)
_PREEMPTED: Final = _QueueWait(
    Reason.PREEMPTED,
    "{subject} gave its place in queue {queue} to another job; "
    "it starts again by itself when quota is free, training from its last checkpoint",
    # Work is undone by it: that is told at once.
    grace_s=0.0,
)
_NOT_TAKEN_UP: Final = _QueueWait(
    Reason.ADMISSION_PENDING,
    "{subject} waits in queue {queue}, but Kueue has made no Workload for it; "
    "see that Kueue runs, and that it manages this kind in this namespace",
    # Kueue takes up what is new within a second, unless it is being started or upgraded.
    grace_s=UNKNOWN_GRACE_S,
)
_NO_KUEUE: Final = _QueueWait(
    Reason.KUEUE_NOT_INSTALLED,
    "{subject} waits in queue {queue}, but Kueue is not installed in this cluster; "
    "install it, or make a job without queueName",
)

# Reasons of QuotaReserved=False; releases before 0.20 say Pending and Inadmissible for most of it,
# so that their message has to tell the cases apart.
_NOT_RESERVED: Final[Mapping[str, _QueueWait]] = {
    "Deactivated": _SWITCHED_OFF,
    "ExceedsMaxQuota": _TOO_LARGE,
    "Inadmissible": _NOT_ADMITTED,
    "Misconfigured": _NOT_ADMITTED,
    "NoMatchingFlavor": _NO_FLAVOR,
    "Pending": _TURN,
    "PendingEvaluation": _TURN,
    "Suspended": _STOPPED,
    "TopologyPlacementFailed": _NO_FLAVOR,
    "Waiting": _TURN,
    "WaitingForPodsReady": _TURN,
    "WaitingForPreemptedWorkloads": _TURN,
    "WaitingForQuota": _TURN,
}
_BY_MESSAGE: Final[Mapping[str, _QueueWait]] = {
    "doesn't exist": _NO_QUEUE,
    "is inactive": _STOPPED,
    "maximum capacity": _TOO_LARGE,
}


def names_queue(child: Manifest) -> bool:
    """Whether Kueue decides when this child runs."""
    return label_of(child, QUEUE_LABEL) is not None


def is_queued(child: Manifest) -> bool:
    """Whether it waits in a queue now: it names one, and is suspended."""
    return bool(child["spec"].get("suspend")) and names_queue(child)


def has_left_queue(child: Manifest) -> bool:
    """Whether it was in a queue, and is there no more."""
    return names_queue(child) and not is_queued(child)


def admitted_at(child: Manifest, workloads: Sequence[Manifest] | None) -> datetime | None:
    """When Kueue let `child` run last, as it has noted itself."""
    workload = _workload_of(child, workloads)
    return true_since(workload, "Admitted") if workload else None


def queue_wait(subject: str, child: Manifest, workloads: Sequence[Manifest] | None) -> Waiting:
    """Why `child`, which is queued, does not run; None are the Workloads of no Kueue at all."""
    workload = _workload_of(child, workloads)
    if workload is None:
        wait, said = (_NO_KUEUE if workloads is None else _NOT_TAKEN_UP), ""
    else:
        wait, said = _wait_of(workload)
    message = wait.message.format(
        subject=subject,
        queue=label_of(child, QUEUE_LABEL),
        said=quoted(said, at_most=_MAX_QUOTE),
        name=workload["metadata"]["name"] if workload else "",
    )
    return Waiting(
        wait.reason,
        message,
        _suspended_at(child, workload),
        grace_s=wait.grace_s,
        in_queue=True,
        recheck_s=RECHECK_S,
    )


def _workload_of(child: Manifest, workloads: Sequence[Manifest] | None) -> Manifest | None:
    of_child = (
        workload for workload in workloads or () if child["metadata"]["uid"] in owners_of(workload)
    )
    return next(of_child, None)


def _wait_of(workload: Manifest) -> tuple[_QueueWait, str]:
    """What the Workload's conditions come to, and Kueue's words where they tell more."""
    evicted = condition_of(workload, "Evicted") or {}
    # Before its quota: what is preempted is also pending again, and that it lost its place is news.
    if evicted.get("status") == "True" and evicted.get("reason") == "Preempted":
        return _PREEMPTED, ""
    if has_condition(workload, "QuotaReserved"):
        admission = condition_of(workload, "Admitted") or {}
        return _NOT_ADMITTED, admission.get("message") or "its quota is reserved"
    reserved = condition_of(workload, "QuotaReserved") or {}
    said = reserved.get("message", "")
    by_message = next((wait for part, wait in _BY_MESSAGE.items() if part in said), None)
    wait = by_message or _NOT_RESERVED.get(reserved.get("reason", ""), _NOT_ADMITTED)
    return wait, said or "Kueue has not said why"


def _suspended_at(child: Manifest, workload: Manifest | None) -> datetime:
    # A Job says so itself, a little late; of a RayJob Kueue alone says when it was put back.
    # Without either, a preemption would seem to have lasted since the creation, and the deadlines
    # of a job that ran for hours would be over at once.
    put_back = _lost_its_place_at(workload) if workload else None
    known = (created_at(child), true_since(child, "Suspended"), put_back)
    return max(time for time in known if time is not None)


def _lost_its_place_at(workload: Manifest) -> datetime | None:
    """When it was evicted from its place; what has none yet can be evicted, too, and waits on."""
    evicted = true_since(workload, "Evicted")
    admitted = condition_of(workload, "Admitted") or {}
    # Evicted=True with Admitted still True is an eviction under way. Where Admitted turned False
    # before the eviction, there was no place to lose.
    if evicted is None or admitted.get("status") != "False":
        return evicted
    return evicted if evicted <= time_of(admitted["lastTransitionTime"]) else None
