"""The resource itself: metadata, spec and status; what breaks a rule is refused here."""

from typing import Literal, Self

from pydantic import ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from tunesmith_api.base import API_VERSION, ApiModel
from tunesmith_api.finetunejob.rules import BrokenRule, broken_rules
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.metadata import ObjectMeta


class FineTuneJob(ApiModel):
    """Data → train → evaluate → compress → verify → publish, once."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION
    kind: Literal["FineTuneJob"] = "FineTuneJob"
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: FineTuneJobStatus | None = None

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> Self:
        broken = broken_rules(self.spec)
        if broken:
            raise ValidationError.from_exception_data(
                type(self).__name__, [_details(each, spec=self.spec) for each in broken]
            )
        return self


def _details(broken: BrokenRule, *, spec: FineTuneJobSpec) -> InitErrorDetails:
    """The broken rule at the field to mend, in pydantic's own form of an error."""
    error = PydanticCustomError("broken_rule", "{message}", {"message": broken.rule.message})
    return InitErrorDetails(type=error, loc=("spec", *broken.path), input=spec)
