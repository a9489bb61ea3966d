"""From an object of the API server to a job, or to the reason why it is none.

The server has checked the spec by the definitions installed in it; those may be newer or older
than this operator, so everything is checked again here.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from tunesmith_api.complaints import complaint
from tunesmith_api.fields import dotted
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_engine.lifecycle.wording import clipped
from tunesmith_operator.kube.client import Manifest


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why this operator cannot run a job: the field, the rule it breaks, and the next step."""

    message: str


def read_job(found: Manifest) -> FineTuneJob | Unreadable:
    """The job without its status."""
    given = {key: value for key, value in found.items() if key != "status"}
    try:
        return FineTuneJob.model_validate(given)
    except ValidationError as error:
        first, *more = error.errors(include_url=False)
        path = tuple(part for part in first["loc"] if part != "[key]")
        rest = f" (and {len(more)} more)" if more else ""
        text = f"{dotted(path)}: {complaint(first, path=path)}"
        return Unreadable(clipped(text, ending=rest))


def read_status(found: Manifest) -> FineTuneJobStatus | None:
    """What was observed of the job so far.

    Raises:
        pydantic.ValidationError: another release has written it, and only that one can go on.
    """
    given = found.get("status")
    return FineTuneJobStatus.model_validate(given) if given else None
