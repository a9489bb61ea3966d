"""The resources themselves: kind, metadata, spec and status put together.

`FineTuneJob` runs once. `ModelVersion` is the immutable record that a finished job leaves behind:
where every file of the model lies with its digest, and everything it was made from.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from tunesmith_api.base import API_VERSION, ApiModel
from tunesmith_api.finetunejob.rules import BrokenRule, broken_rules
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.status import (
    Address,
    Artifact,
    EvaluationResult,
    FineTuneJobStatus,
    Name,
)
from tunesmith_api.values import DnsLabel, LabelKey, LabelValue, VersionLabel

Namespace = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
]
# What an API server writes into metadata; a manifest read back from one may carry it.
SERVER_FIELDS = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
)


class Metadata(ApiModel):
    """What both kinds' metadata have; the fields that only a server needs are passed over."""

    namespace: Namespace | None = None
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    annotations: dict[LabelKey, str] = Field(default_factory=dict)
    generation: int | None = None
    uid: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_server_fields(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if key not in SERVER_FIELDS}


class ObjectMeta(Metadata):
    """The part of Kubernetes metadata that a manifest on disk may carry."""

    name: DnsLabel


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


Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
Facts = Annotated[dict[Name, Annotated[str, Field(max_length=4096)]], Field(max_length=200)]


class Lineage(ApiModel):
    """What a version was made from; enough to make it again."""

    job: Name
    base_model: Address
    base_revision: Name
    data_digest: Name
    seeds: Annotated[dict[Name, int], Field(max_length=32)] = Field(default_factory=dict)
    hyperparameters: Facts = Field(default_factory=dict)
    versions: Facts = Field(default_factory=dict)
    stage_keys: Facts = Field(default_factory=dict)


class ModelVersionSpec(ApiModel):
    """A published model: its files, what it was made from, and what it scored."""

    model: DnsLabel
    version: VersionLabel
    uri: Address
    digest: Digest
    scheme: Name
    files: Annotated[list[Artifact], Field(max_length=1000)]
    lineage: Lineage
    evaluation: Annotated[list[EvaluationResult], Field(max_length=100)] = Field(
        default_factory=list
    )
    fingerprints: Address | None = Field(
        None,
        description="Path, inside the version, of the log-probability fingerprints.",
    )


class VersionMeta(Metadata):
    """Metadata of a version.

    Its name joins the model's and the version's, so it may be longer than a job's.
    """

    name: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=90)
    ]


class ModelVersion(ApiModel):
    """An immutable record; `metadata.name` is `<model>-<version>`."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelVersion"] = "ModelVersion"
    metadata: VersionMeta
    spec: ModelVersionSpec
