"""What passes between the engine and a stage: one request, progress, one result.

The engine writes `request.json` and starts `python -m MODULE STAGE request.json` in the stage's
environment. The stage writes its artifacts below `request.output`, its progress through a
`Reporter`, and `result.json` as its last act. All three are the records of this module, so they
mean the same on a laptop and in a cluster.
"""

from enum import StrEnum
from typing import Final, Literal

from pydantic import Field, JsonValue

from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.results import Artifact, EvaluationResult
from tunesmith_engine.stages.digests import digest_json

CONTRACT: Final = 1

# Folder of a stage's output from which its next attempt goes on; `checkpoint_mirror` says how.
CHECKPOINTS: Final = "checkpoints"


class StrEnum:
    """The stages, in the order in which a job goes through them."""

    PREPARE = "prepare"
    TRAIN = "train"
    EVALUATE = "evaluate"
    COMPRESS = "compress"
    VERIFY = "verify"
    PUBLISH = "publish"


class Environment(StrEnum):
    """A set of installed libraries: a virtual environment on a laptop, an image in a cluster."""

    TRAINER = "trainer"
    COMPRESSOR = "compressor"
    SERVER = "server"


class StageResult(ApiModel):
    """What a stage did.

    `facts` are the stage's own findings, in the shape its module documents.
    """

    contract: Literal[1] = CONTRACT
    stage: StageName
    key: str
    attempt: int
    outcome: Literal["Succeeded", "Failed"]
    reason: str
    message: str = ""
    retryable: bool = False
    bad_input: bool = False
    artifacts: list[Artifact] = Field(default_factory=list)
    evaluation: list[EvaluationResult] = Field(default_factory=list)
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    resumed_from_step: int | None = None
    seconds: float = 0.0

    @property
    def digest(self) -> str:
        """Digest of everything told; a field that a later release adds does not change it."""
        return digest_json(self.model_dump(mode="json", by_alias=True, exclude_defaults=True))

    def artifact(self, name: str) -> Artifact:
        """The artifact called `name`.

        Raises:
            KeyError: the stage made no such artifact.
        """
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        raise KeyError(f"stage {self.stage} made no artifact '{name}'")


class GivenMemory(ApiModel):
    """The memory that a stage gets where it will run: of all its workers, or of each accelerator.

    `given_by` is the field of the spec that says so, with its value.
    """

    size_bytes: int
    given_by: str
    is_per_accelerator: bool = False


class StageRequest(ApiModel):
    """Everything a stage may know; `spec` has every default filled in by the planner.

    Folders are absolute paths. `output` is this stage's own and survives its attempts, so that a
    stage can go on where a killed one stopped. `base` is what relative file:// URIs start from.
    `cache` is shared by all jobs. `secrets` holds one folder per secret with one file per key.
    `models` is where a job without `output.uri` publishes. `memory` is what later stages get, as
    far as that is known; None means that they share this machine. `store` is the URI below which
    the job keeps what must outlive the disk of this machine; None means that the disk itself does.
    """

    contract: Literal[1] = CONTRACT
    job: str
    stage: StageName
    key: str
    attempt: int
    spec: FineTuneJobSpec
    inputs: dict[StageName, StageResult] = Field(default_factory=dict)
    stage_keys: dict[StageName, str] = Field(default_factory=dict)
    output: str
    report: str
    result: str
    base: str
    cache: str
    secrets: str
    models: str
    memory: dict[StageName, GivenMemory] | None = None
    store: str | None = None
