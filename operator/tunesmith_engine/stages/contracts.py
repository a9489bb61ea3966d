"""What passes between the engine and a stage: one request, progress, one outcome, one result.

A stage is a `StageFunction`: it is called with a `StageRequest` and a `Reporter`, and returns a
`StageOutcome` or raises a `StageError` (`errors.py`). `entry.py` makes the `StageResult` of either.

The engine writes `request.json` and starts `python -m MODULE STAGE request.json` in the stage's
environment. The stage writes its artifacts below `request.output`, its progress through a
`Reporter`, and `result.json` as its last act. All three are the records of this module, so they
mean the same on a laptop and in a cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, Literal, Protocol

from pydantic import Field, JsonValue, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.results import Artifact, EvaluationResult
from tunesmith_engine.search_memory.recall import Recalled
from tunesmith_engine.stages.digests import digest_json

# NB: raise it whenever a stage could no longer read what one of an earlier release has left: keys
# digest it, and a job that is half done does not go on across it (`lifecycle/runs.py`).
CONTRACT: Final = 1

# Environment variables that every stage needs, on a laptop and in a pod.
STAGE_VARIABLES: Final = {
    "PYTHONUNBUFFERED": "1",
    # GNU's OpenMP spins 300,000 times before it sleeps: on cores shared with another job that more
    # than halves both, and on cores of its own a stage gains nothing by it (docs/log.md).
    "GOMP_SPINCOUNT": "1000",
    # What a stage writes is a log, never a terminal.
    "NO_COLOR": "1",
    "RAY_COLOR_PREFIX": "0",
    "TQDM_DISABLE": "1",
}

# Environment variable with the port on which the workers of training serve their metrics.
METRICS_PORT: Final = "TUNESMITH_METRICS_PORT"

# Environment variable with the folder in which what trains is told to leave.
LEAVING: Final = "TUNESMITH_LEAVING"

# Folder of a stage's output from which its next attempt goes on; `checkpoint_mirror` says how.
CHECKPOINTS: Final = "checkpoints"


# Open: `catalog.py` has a row for each stage that there is.
StageName = Annotated[str, StringConstraints(pattern=r"^[a-z]+$", max_length=12)]


class Environment(StrEnum):
    """A set of installed libraries: a virtual environment on a laptop, an image in a cluster."""

    TRAINER = "trainer"
    COMPRESSOR = "compressor"
    SERVER = "server"
    EDGE = "edge"


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
        """Digest of everything told; a field that a later release adds does not change it.

        The operator keeps it in the status, so that a pod cannot change its report afterwards.
        """
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

    `inputs` are the results of the stages that this one reads, and of no others: what its key does
    not digest must not change its outcome.

    Folders are absolute paths. `output` is this stage's own and survives its attempts, so that a
    stage can go on where a killed one stopped. `base` is what relative file:// URIs start from.
    `cache` is shared by all jobs. `secrets` holds one folder per secret with one file per key.
    `models` is where a job without `output.uri` publishes. `memory` is what later stages get, as
    far as that is known; None means that they share this machine. `store` is the URI below which
    the job keeps what must outlive the disk of this machine; None means that the disk itself does.
    `apart` says that the stage's workers have disks of their own, and nothing in common but the
    store; they read `stored_inputs`, which are `inputs` as the store has them. `recalled` is what
    a search may start from, where anything is remembered; no key digests it, for a search that is
    done stays done whatever was learnt since. `memory_store` is the URI below which a cluster's
    jobs keep that themselves; None where whoever starts the stage does.
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
    apart: bool = False
    stored_inputs: dict[StageName, StageResult] = Field(default_factory=dict)
    recalled: Recalled | None = None
    memory_store: str | None = None


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """The findings of a stage.

    Every field but `message` goes unchanged into its `StageResult`.
    """

    message: str
    artifacts: list[Artifact] = field(default_factory=list)
    evaluation: list[EvaluationResult] = field(default_factory=list)
    facts: dict[str, JsonValue] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    resumed_from_step: int | None = None


class Reporter(Protocol):
    """Where a stage says how far it is."""

    def progress(
        self,
        message: str,
        *,
        step: int | None = None,
        total_steps: int | None = None,
        epoch: float | None = None,
        eta_s: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Tell people what the stage does now."""


class StageFunction(Protocol):
    """A stage: it may take hours, and returns only if everything it promises is on disk."""

    def __call__(self, request: StageRequest, reporter: Reporter) -> StageOutcome:
        """Run the stage.

        Raises:
            StageError: the stage cannot succeed; any other exception counts as a crash.
        """
