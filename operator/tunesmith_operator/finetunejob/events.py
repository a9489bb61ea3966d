"""One Event for each change of a job's phase: what `kubectl describe ftj` shows as its history.

Written after the status that it tells of, and never again: a crash in between loses the line in
the history, and the status is what counts.
"""

import hashlib
from datetime import datetime

from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB
from tunesmith_operator.kube.objects import MANAGER, Manifest


def event_of(
    job: Manifest,
    before: FineTuneJobStatus | None,
    after: FineTuneJobStatus,
    *,
    now: datetime,
) -> Manifest | None:
    """The Event of the change from `before` to `after`; None if the phase is the same."""
    if before is not None and before.phase == after.phase:
        return None
    metadata = job["metadata"]
    # Of the version that was changed, so that writing it again writes the same Event; events of
    # deleted jobs of this name stay for an hour, hence the uid.
    text = f"{metadata['uid']}/{metadata['resourceVersion']}/{after.phase}"
    name = f"{metadata['name']}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    time = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    # The phase as a reason; of a job that failed, the reason for that.
    ready = next(
        condition for condition in after.conditions if condition.type == ConditionType.READY
    )
    has_failed = after.phase == Phase.FAILED
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": FINE_TUNE_JOB.api_version,
            "kind": FINE_TUNE_JOB.kind,
            **{field: metadata[field] for field in ("name", "namespace", "uid")},
        },
        "type": "Warning" if has_failed else "Normal",
        "reason": ready.reason if has_failed else str(after.phase),
        "message": ready.message,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
        # kubectl sorts by the old fields and shows their count.
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
