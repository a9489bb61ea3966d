"""From an object of the API server to a job, or to the reason why it is none.

The server has checked the spec by the definitions installed in it; those may be newer or older
than this operator, so everything is checked again here.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from tunesmith_api.field_paths import dotted
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.validation_errors import error_message, error_path
from tunesmith_engine.lifecycle.conditions import truncate_message
from tunesmith_operator.cluster_client import Manifest


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
        rest = f" (and {len(more)} more)" if more else ""
        text = f"{dotted(error_path(first))}: {error_message(first, model=FineTuneJob)}"
        return Unreadable(truncate_message(text, suffix=rest))


def read_status(found: Manifest) -> FineTuneJobStatus | None:
    """What was observed of the job so far.

    Raises:
        pydantic.ValidationError: another release has written it, and only that one can go on.
    """
    given = found.get("status")
    return FineTuneJobStatus.model_validate(given) if given else None
