"""Events: what `kubectl describe` shows as the history of an object.

Written after the status that they tell of, and never again: a crash in between loses the line in
the history, and the status is what counts.
"""

import hashlib
from datetime import datetime

from tunesmith_operator.kube.objects import MANAGER, Manifest
from tunesmith_operator.kube.resources import Resource


def event_about(
    manifest: Manifest,
    resource: Resource,
    *,
    phase: str,
    reason: str,
    message: str,
    is_warning: bool,
    now: datetime,
) -> Manifest:
    """The Event of the change to `phase` that was decided on exactly this version of the object."""
    metadata = manifest["metadata"]
    # Of the version that was changed, so that writing it again writes the same Event; events of
    # deleted objects of this name stay for an hour, hence the uid.
    text = f"{metadata['uid']}/{metadata['resourceVersion']}/{phase}"
    name = f"{metadata['name']}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    time = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            **{field: metadata[field] for field in ("name", "namespace", "uid")},
        },
        "type": "Warning" if is_warning else "Normal",
        "reason": reason,
        "message": message,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
        # kubectl sorts by the old fields and shows their count.
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
