"""From an object of the API server to a deployment, or to the reason why it is none.

The server has checked the spec by the definitions installed in it; those may be newer or older
than this operator, so everything is checked again here.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.conditions import invalid_spec_message
from tunesmith_operator.kube.objects import Manifest, status_of
from tunesmith_operator.kube.other_release import unknown_status


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why this operator cannot run a deployment: the field, the rule it breaks, the next step."""

    message: str


def parse_spec(manifest: Manifest) -> ModelDeploymentSpec | Unreadable:
    """What is wanted."""
    # A status of another release must not make a deployment unreadable whose spec is not.
    given = {name: value for name, value in manifest.items() if name != "status"}
    try:
        return ModelDeployment.model_validate(given).spec
    except ValidationError as error:
        return Unreadable(invalid_spec_message(error, model=ModelDeployment))


def parse_status(manifest: Manifest) -> ModelDeploymentStatus | None:
    """What was observed so far.

    Raises:
        OtherReleaseError: another release has written it, and only that one can go on.
    """
    status = status_of(manifest)
    try:
        return ModelDeploymentStatus.model_validate(status) if status else None
    except ValidationError as error:
        raise unknown_status(error) from error
