"""`ModelVersion`: the immutable record that a finished job leaves behind.

Where every file of the model lies with its digest, and everything it was made from.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import API_VERSION, ApiModel, JsonMapping
from tunesmith_api.conditions import Name
from tunesmith_api.field_types import DnsLabel, ObjectName, VersionLabel
from tunesmith_api.finetunejob.export import MAX_FORMATS
from tunesmith_api.metadata import Metadata
from tunesmith_api.printer_columns import PrinterColumn
from tunesmith_api.results import Address, Artifact, EvaluationResult, ExportedFormat
from tunesmith_api.rules import TransitionRule

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
Facts = Annotated[dict[Name, Annotated[str, Field(max_length=4096)]], Field(max_length=200)]

# When the version was published, as an RFC 3339 time. NB: the server's own time of creation is that
# of the last restore from a backup, and which version is the newest follows from it.
PUBLISHED_ANNOTATION: Final = "tunesmith.dev/published-at"

PRINTER_COLUMNS: Final = (
    PrinterColumn("Model", "string", ".spec.model", "Name that clients know."),
    PrinterColumn("Version", "string", ".spec.version", "Name of the version."),
    PrinterColumn("Scheme", "string", ".spec.scheme", "How the weights are stored."),
    PrinterColumn("Age", "date", ".metadata.creationTimestamp", "Time since it was published."),
    PrinterColumn("URI", "string", ".spec.uri", "Where the files lie.", is_wide=True),
    PrinterColumn("Job", "string", ".spec.lineage.job", "The job that made it.", is_wide=True),
    PrinterColumn(
        "Base", "string", ".spec.lineage.baseModel", "What it was made from.", is_wide=True
    ),
)

TRANSITION_RULES: Final = (
    TransitionRule(
        scope="spec",
        field="",
        cel="self == oldSelf",
        message="a ModelVersion is a record and never changes; publish another version",
    ),
)


class Lineage(ApiModel):
    """What a version was made from; enough to make it again."""

    job: Name
    base_model: Address
    base_revision: Name
    parent_digest: Digest | None = Field(
        None, description="Digest of the version that this one continues, which is baseModel then."
    )
    data_digest: Name
    seeds: Annotated[dict[Name, int], Field(max_length=32)] = Field(default_factory=dict)
    hyperparameters: Facts = Field(default_factory=dict)
    versions: Facts = Field(default_factory=dict)
    stage_keys: Facts = Field(default_factory=dict)


class Adapter(ApiModel):
    """The LoRA adapter of a version, which lies in `adapter/`, and the base that it runs on."""

    rank: Annotated[int, Field(ge=1)]
    base_uri: Address
    base_digest: Digest
    base_bytes: Annotated[int, Field(ge=0)] = Field(description="Size of the base's files.")


class ModelVersionSpec(ApiModel):
    """A published model: its files, what it was made from, and what it scored."""

    model: DnsLabel
    version: VersionLabel
    uri: Address
    digest: Digest
    claim_name: ObjectName | None = Field(
        None, description="The PersistentVolumeClaim that holds the files of a file:// URI."
    )
    scheme: Name
    files: Annotated[list[Artifact], Field(max_length=1000)]
    lineage: Lineage
    evaluation: Annotated[list[EvaluationResult], Field(max_length=100)] = Field(
        default_factory=list
    )
    adapter: Adapter | None = Field(
        None, description="Set where the version can be served as an adapter on a shared base."
    )
    exports: Annotated[list[ExportedFormat], Field(max_length=MAX_FORMATS)] = Field(
        default_factory=list,
        description="Formats for devices, each a folder of the version.",
    )
    fingerprints: Address | None = Field(
        None,
        description="Path, inside the version, of the log-probability fingerprints.",
    )


class VersionMeta(Metadata):
    """Metadata of a version.

    Its name joins the model's and the version's, so it may be longer than a job's.
    """

    # 40 of the model, a hyphen and 40 of the version, with room to spare.
    name: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=90)
    ]


class ModelVersion(ApiModel):
    """An immutable record; `metadata.name` is `<model>-<version>`."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelVersion"] = "ModelVersion"
    metadata: VersionMeta
    spec: ModelVersionSpec


def record_content(record: ModelVersion) -> JsonMapping:
    """The record as it is reported, stored and applied.

    NB: without defaults. An operator or definitions of an older release lack fields that this one
    adds, and would refuse the whole record for one that says nothing.
    """
    given = record.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return {"apiVersion": record.api_version, "kind": record.kind, **given}
