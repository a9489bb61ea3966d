"""The resources themselves: kind, metadata, spec and status put together.

`FineTuneJob` runs once. `ModelVersion` is the immutable record that a finished job leaves behind:
where every file of the model lies with its digest, and everything it was made from.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import API_VERSION, ApiModel
from tunesmith_api.job import DnsLabel, FineTuneJobSpec
from tunesmith_api.status import Artifact, EvaluationResult, FineTuneJobStatus

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class ObjectMeta(ApiModel):
    """The part of Kubernetes metadata that a manifest on disk may carry."""

    name: DnsLabel
    namespace: DnsLabel | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    generation: int | None = None
    uid: str | None = None


class FineTuneJob(ApiModel):
    """Data → train → evaluate → compress → verify → publish, once."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION
    kind: Literal["FineTuneJob"] = "FineTuneJob"
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: FineTuneJobStatus | None = None


class Lineage(ApiModel):
    """What a version was made from; enough to make it again."""

    job: str
    base_model: str
    base_revision: str
    data_digest: str
    seeds: dict[str, int] = Field(default_factory=dict)
    hyperparameters: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    stage_keys: dict[str, str] = Field(default_factory=dict)


class ModelVersionSpec(ApiModel):
    """A published model: its files, what it was made from, and what it scored."""

    model: DnsLabel
    version: str
    uri: str
    digest: Digest
    scheme: str
    files: list[Artifact]
    lineage: Lineage
    evaluation: list[EvaluationResult] = Field(default_factory=list)
    fingerprints: str | None = Field(
        None,
        description="Path, inside the version, of the log-probability fingerprints.",
    )


class VersionMeta(ApiModel):
    """Metadata of a version.

    Its name joins the model's and the version's, so it may be longer than a job's.
    """

    name: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=90)
    ]
    namespace: DnsLabel | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class ModelVersion(ApiModel):
    """An immutable record; `metadata.name` is `<model>-<version>`."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelVersion"] = "ModelVersion"
    metadata: VersionMeta
    spec: ModelVersionSpec
