"""From an object of the API server to a job, or to the reason why it is none.

The server has checked the spec by the definitions installed in it; those may be newer or older
than this operator, so everything is checked again here.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.status import FINAL_PHASES, FineTuneJobStatus
from tunesmith_engine.conditions import invalid_spec_message
from tunesmith_operator.kube.objects import Manifest, status_of
from tunesmith_operator.kube.other_release import unknown_status


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why this operator cannot run a job: the field, the rule it breaks, and the next step."""

    message: str


def parse_job(manifest: Manifest) -> FineTuneJob | Unreadable:
    """The job without its status."""
    # A status of another release must not make a job unreadable whose spec is not.
    given = {name: value for name, value in manifest.items() if name != "status"}
    try:
        return FineTuneJob.model_validate(given)
    except ValidationError as error:
        return Unreadable(invalid_spec_message(error, model=FineTuneJob))


def parse_status(manifest: Manifest) -> FineTuneJobStatus | None:
    """What was observed of the job so far.

    Raises:
        OtherReleaseError: another release has written it, and only that one can go on.
    """
    status = status_of(manifest)
    try:
        return FineTuneJobStatus.model_validate(status) if status else None
    except ValidationError as error:
        raise unknown_status(error) from error


def has_ended(manifest: Manifest) -> bool:
    """Whether the job has come to its end."""
    return status_of(manifest).get("phase") in FINAL_PHASES


def fingerprints_of(spec: FineTuneJobSpec, *, uid: str) -> dict[str, str]:
    """What stands for the content of the sources in a cluster: address and revision, in this job.

    The control plane reads no data, so content that changes under an address while a job runs is
    not noticed; another job, even of the same name, has other keys.
    """
    sources = {
        "model": spec.model,
        "dataset.train": spec.dataset.train,
        "dataset.validation": spec.dataset.validation,
        "evaluation.generalText": spec.evaluation.general_text,
    }
    revision = spec.model.revision or ""
    # NB: the uid has to be in it. Keys are in the names of children, and one that a deleted job of
    # this name has left would otherwise be taken for this job's.
    return {
        path: f"{source.uri}@{revision if path == 'model' else ''}#{uid}"
        for path, source in sources.items()
        if source is not None
    }
