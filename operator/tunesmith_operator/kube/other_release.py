"""Objects that another release has written in a way that this one cannot take up.

After a roll back the definitions lack fields of the newer release, and the server drops those from
what it hands out, with no word. Whoever goes on with the rest makes another model than was asked
for, and whoever writes the object makes the loss final. So nothing is written: an Event says why,
what runs goes on, and the newer release finds everything as it left it.
"""

import logging
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import truncate_message
from tunesmith_operator.kube.events import EventRecorder, event_about
from tunesmith_operator.kube.lost_fields import lost_fields
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.kube.resources import Resource

_LOG = logging.getLogger(__name__)

_REMEDY: Final = (
    "upgrade again, and it goes on; or delete it and make it anew. Until then it is left as it is"
)
# As many as a person reads; the remedy has to fit in, too.
_MAX_NAMED: Final = 5


class OtherReleaseError(ValueError):
    """Only another release can go on with the object."""


def require_whole(manifest: Manifest) -> None:
    """Do nothing if the spec has all the fields that were given.

    Raises:
        OtherReleaseError: the definitions installed now have dropped some.
    """
    lost = list(lost_fields(manifest))
    if lost:
        names = ", ".join(lost[:_MAX_NAMED])
        raise OtherReleaseError(
            f"{names} {'was' if len(lost) == 1 else 'were'} given under another release, and the "
            f"definitions installed now drop it: {_REMEDY}"
        )


def unknown_status(error: ValidationError) -> OtherReleaseError:
    """What to raise for a status that breaks this release's schema."""
    path = ".".join(str(part) for part in error.errors(include_url=False)[0]["loc"])
    return OtherReleaseError(f"status.{path} was written by another release: {_REMEDY}")


def leave_alone(
    recorder: EventRecorder,
    manifest: Manifest,
    resource: Resource,
    error: OtherReleaseError,
    *,
    now: datetime,
) -> None:
    """Say in an Event, once for each version of the object, why nothing is done for it."""
    name = manifest["metadata"]["name"]
    _LOG.warning("%s %s is left alone: %s", resource.kind, name, error)
    event = event_about(
        manifest,
        resource,
        phase=Reason.OTHER_RELEASE,
        reason=Reason.OTHER_RELEASE,
        message=truncate_message(str(error)),
        is_warning=True,
        now=now,
    )
    recorder.record(event)
