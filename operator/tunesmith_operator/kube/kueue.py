"""What an attempt waits for in a queue of Kueue: facts of its Workload, for `advance`.

Kueue holds a child that names a queue suspended until it is its turn, and says why in a Workload
that the child owns; the child itself says only that it is suspended. Every wait quotes Kueue where
its words tell more, and ends with what a person can do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_operator.finetunejob.placement import QUEUE_LABEL
from tunesmith_operator.kube.client import Manifest
from tunesmith_operator.kube.pods import condition_of, has_condition, is_owned, true_since
from tunesmith_operator.kube.ray_job import is_asleep

# Seconds. A turn changes the child, of which the operator hears; another reason does not.
AGAIN_S: Final = 60.0
UNKNOWN_GRACE_S: Final = 20.0

_MAX_QUOTE: Final = 100


@dataclass(frozen=True, slots=True)
class _Words:
    """A reason, and its message with the places `stage`, `queue`, `said` and `name`."""

    reason: Reason
    message: str
    grace_s: float = 3.0


_TURN: Final = _Words(
    Reason.WAITING_FOR_QUOTA,
    "{stage} waits in queue {queue}: {said}. It starts by itself when quota is free",
)
_TOO_LARGE: Final = _Words(
    Reason.EXCEEDS_MAX_QUOTA,
    "{stage} asks for more than queue {queue} ever gives: {said}. "
    "Ask for less in a new job, or raise the quota",
)
_NO_QUEUE: Final = _Words(
    Reason.QUEUE_NOT_FOUND,
    "{stage} cannot wait in queue {queue}: {said}. Create it, or name another in a new job",
)
_STOPPED: Final = _Words(
    Reason.QUEUE_STOPPED,
    "{stage} waits in queue {queue}, which lets nothing in: {said}. It goes on when that is undone",
)
_SWITCHED_OFF: Final = _Words(
    Reason.WORKLOAD_DEACTIVATED,
    "{stage} was taken out of queue {queue}: {said}. "
    "Set spec.active: true in Workload {name} to let it in again",
)
_NO_FLAVOR: Final = _Words(
    Reason.UNSCHEDULABLE,
    "{stage} fits no flavor of queue {queue}: {said}. Ask for other nodes, or add such a flavor",
)
_NOT_ADMITTED: Final = _Words(
    Reason.ADMISSION_PENDING, "{stage} waits in queue {queue} for its admission: {said}"
)
_PREEMPTED: Final = _Words(
    Reason.PREEMPTED,
    "{stage} gave its place in queue {queue} to another job; "
    "it starts again by itself when quota is free, training from its last checkpoint",
    grace_s=0.0,
)
_NOT_TAKEN_UP: Final = _Words(
    Reason.ADMISSION_PENDING,
    "{stage} waits in queue {queue}, but Kueue has made no Workload for it; "
    "see that Kueue runs, and that it manages this kind in this namespace",
    grace_s=UNKNOWN_GRACE_S,
)
_NO_KUEUE: Final = _Words(
    Reason.KUEUE_NOT_INSTALLED,
    "{stage} waits in queue {queue}, but Kueue is not installed in this cluster; "
    "install it, or make a job without queueName",
)

# Reasons of QuotaReserved=False; releases before 0.20 say Pending and Inadmissible for most of it.
_NOT_RESERVED: Final[Mapping[str, _Words]] = {
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
_BY_MESSAGE: Final[Mapping[str, _Words]] = {
    "doesn't exist": _NO_QUEUE,
    "is inactive": _STOPPED,
    "maximum capacity": _TOO_LARGE,
}


def names_queue(child: Manifest) -> bool:
    """Whether Kueue decides when this Job or RayJob runs."""
    return QUEUE_LABEL in (child["metadata"].get("labels") or {})


def is_queued(child: Manifest) -> bool:
    """Whether it waits in a queue now: it names one, and is suspended."""
    return bool(child["spec"].get("suspend")) and names_queue(child)


def is_waking(child: Manifest) -> bool:
    """Whether Kueue has let this child run, and nothing in the child itself says since when."""
    if child["spec"].get("suspend") or not names_queue(child):
        return False
    if child["kind"] == "RayJob":
        return is_asleep(child)
    return not (child.get("status") or {}).get("startTime")


def let_in_at(child: Manifest, workloads: list[Manifest] | None) -> datetime | None:
    """When Kueue let `child` run last, as it has noted itself."""
    entry = _entry_of(child, workloads)
    return true_since(entry, "Admitted") if entry else None


def queue_wait(stage: str, child: Manifest, workloads: list[Manifest] | None) -> Waiting:
    """Why `child`, which is queued, does not run; None are the Workloads of no Kueue at all."""
    entry = _entry_of(child, workloads)
    if entry is None:
        words, said = (_NO_KUEUE if workloads is None else _NOT_TAKEN_UP), ""
    else:
        words, said = _words(entry)
    message = words.message.format(
        stage=stage,
        queue=child["metadata"]["labels"][QUEUE_LABEL],
        said=_quoted(said),
        name=entry["metadata"]["name"] if entry else "",
    )
    return Waiting(
        words.reason,
        message,
        _suspended_at(child, entry),
        grace_s=words.grace_s,
        in_queue=True,
        again_s=AGAIN_S,
    )


def _entry_of(child: Manifest, workloads: list[Manifest] | None) -> Manifest | None:
    uid = child["metadata"]["uid"]
    return next((each for each in workloads or () if is_owned(each, by_uid=uid)), None)


def _words(entry: Manifest) -> tuple[_Words, str]:
    evicted = condition_of(entry, "Evicted") or {}
    if evicted.get("status") == "True" and evicted.get("reason") == "Preempted":
        return _PREEMPTED, ""
    if has_condition(entry, "QuotaReserved"):
        return _NOT_ADMITTED, _said(entry, "Admitted") or "its quota is reserved"
    reserved = condition_of(entry, "QuotaReserved") or {}
    said = reserved.get("message", "")
    by_message = next((words for part, words in _BY_MESSAGE.items() if part in said), None)
    words = by_message or _NOT_RESERVED.get(reserved.get("reason", ""), _NOT_ADMITTED)
    return words, said or "Kueue has not said why"


def _said(entry: Manifest, type_: str) -> str:
    message: str = (condition_of(entry, type_) or {}).get("message", "")
    return message


def _suspended_at(child: Manifest, entry: Manifest | None) -> datetime:
    """A Job says so itself, a little late; of a RayJob Kueue alone says when it was put back."""
    created = datetime.fromisoformat(child["metadata"]["creationTimestamp"])
    put_back = _put_back_at(entry) if entry else None
    known = (created, true_since(child, "Suspended"), put_back)
    return max(each for each in known if each is not None)


def _put_back_at(entry: Manifest) -> datetime | None:
    """When it lost its place; what has none yet can be evicted, too, and goes on to wait."""
    evicted = true_since(entry, "Evicted")
    admitted = condition_of(entry, "Admitted") or {}
    if evicted is None or admitted.get("status") != "False":
        return evicted
    return evicted if evicted <= datetime.fromisoformat(admitted["lastTransitionTime"]) else None


def _quoted(message: str) -> str:
    text = " ".join(message.split()).rstrip(".")
    return text if len(text) <= _MAX_QUOTE else f"{text[: _MAX_QUOTE - 1]}…"
