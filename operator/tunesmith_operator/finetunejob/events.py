"""One Event for each change of a job's phase: what `kubectl describe ftj` shows as its history.

Written after the status that it tells of, and never again: a crash in between loses the line in
the history, and the status is what counts.
"""

import hashlib
from datetime import datetime

from tunesmith_api.base import API_VERSION
from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_operator.finetunejob.child_names import MANAGER
from tunesmith_operator.kube.client import Manifest


def event_of(
    found: Manifest,
    before: FineTuneJobStatus | None,
    after: FineTuneJobStatus,
    *,
    now: datetime,
) -> Manifest | None:
    """The Event of the change from `before` to `after`; None if the phase is the same.

    Its name follows from the version of the job that was changed, so that writing it again writes
    the same Event.
    """
    if before is not None and before.phase is after.phase:
        return None
    known = found["metadata"]
    time = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    reason, message = _told(after)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": _name(known, after.phase), "namespace": known["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "FineTuneJob",
            **{key: known[key] for key in ("name", "namespace", "uid")},
        },
        "type": "Warning" if after.phase is Phase.FAILED else "Normal",
        "reason": reason,
        "message": message,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }


def _told(status: FineTuneJobStatus) -> tuple[str, str]:
    """The phase as a reason; of a job that failed, the reason for that."""
    ready = next(each for each in status.conditions if each.type is ConditionType.READY)
    reason = ready.reason if status.phase is Phase.FAILED else str(status.phase)
    return reason, ready.message


def _name(known: Manifest, phase: Phase) -> str:
    text = f"{known['uid']}/{known['resourceVersion']}/{phase}"
    return f"{known['name']}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
