"""`FineTuneJob.status`: what was observed, in the shapes that kubectl, kstatus and people read."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.conditions import Condition, Message, Name
from tunesmith_api.field_types import CamelCase
from tunesmith_api.results import Artifact, EvaluationResult

Seconds = Annotated[float, Field(ge=0.0)]


class Phase(StrEnum):
    """The words for people that every job may come to; while a stage runs, its own stands there."""

    PENDING = "Pending"
    QUEUED = "Queued"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


# Etcd holds at most 1.5 MiB of an object, and every write of the status sends all of it.
MAX_ATTEMPTS: Final = 64
MAX_WARNINGS: Final = 32
MAX_RETRY_VALUE: Final = 64

FINAL_PHASES: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED})


class Metric(ApiModel):
    """A named number, written as text so that no client rounds it."""

    name: Name
    value: Name


class Progress(ApiModel):
    """How far the running stage is.

    `percent` is of the whole job; steps are of the stage.
    """

    stage: str
    percent: Annotated[float, Field(ge=0.0, le=100.0)] | None = None
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    eta_seconds: float | None = None
    message: Message = ""
    metrics: Annotated[list[Metric], Field(max_length=16)] = Field(default_factory=list)
    last_update_time: datetime


class StageStatus(ApiModel):
    """One stage of the job.

    `cached` means an earlier run had already done it with the same key. Waiting is an attempt that
    was started and whose process does not run, for the stage's reason.
    """

    name: str
    key: str
    state: Literal["Pending", "Waiting", "Running", "Succeeded", "Failed"] = "Pending"
    cached: bool = False
    seconds: float = 0.0
    attempt: int = 0
    failures: int = Field(0, description="Attempts that count against backoffLimit.")
    reason: str = ""
    message: Message = ""
    # 71 characters: sha256: and 64 hexadecimal digits.
    result_digest: Annotated[str, StringConstraints(max_length=71)] | None = Field(
        None,
        description="Of what the stage reported when it succeeded; other words do not count later.",
    )

    spec_digest: Annotated[str, StringConstraints(max_length=71)] | None = Field(
        None,
        description="Of what the stage reads of the spec: a retry repeats it where that changed.",
    )

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt was started and has not been seen to end."""
        return self.state in {"Waiting", "Running"}


class Attempt(ApiModel):
    """One start of one stage, and how it ended.

    Until its end it either waits, from `waiting_since` on, or its process runs, from
    `running_since` on.
    """

    stage: str
    number: int
    start_time: datetime
    end_time: datetime | None = None
    reason: str = ""
    message: str = ""
    resumed_from_step: int | None = None
    accelerators: int = Field(0, description="Accelerators of all its pods together.")
    waiting_since: datetime | None = None
    running_since: datetime | None = None
    queued_seconds: Seconds = Field(
        0.0, description="Seconds in which its process did not run: queue, node, image."
    )
    queue_held_seconds: Seconds = Field(
        0.0, description="Those of them that it was held in a queue of Kueue."
    )
    running_seconds: Seconds = Field(0.0, description="Seconds in which its process ran.")
    counted_time: datetime | None = Field(
        None, description="Until when the seconds are counted; they move with the next news."
    )


class FineTuneJobStatus(ApiModel):
    """Everything observed about a job.

    Only the engine writes it.
    """

    observed_generation: int = 0
    contract: int | None = Field(
        None, description="Version of what stages hand to each other; keys hold within one."
    )
    phase: CamelCase = Field(
        Phase.PENDING, description="The one word for people. Succeeded and Failed are final."
    )
    # A list map, as metav1 has it: server-side apply then owns each condition by itself.
    conditions: list[Condition] = Field(
        default_factory=list,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    start_time: datetime | None = None
    completion_time: datetime | None = None
    progress: Progress | None = None
    stages: list[StageStatus] = Field(
        default_factory=list,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    attempts: Annotated[list[Attempt], Field(max_length=MAX_ATTEMPTS)] = Field(default_factory=list)
    gpu_seconds: Seconds = Field(
        0.0, description="Seconds in which stages ran, times their accelerators; of all attempts."
    )
    cost: Annotated[float, Field(ge=0.0)] | None = Field(
        None,
        description="What those accelerators cost so far, at the chart's "
        "`cost.pricePerAcceleratorHour`; none without a price.",
    )
    queued_seconds: Seconds = Field(
        0.0, description="Seconds in which started stages did not run: queue, node, image."
    )
    score: float | None = Field(
        None, description="Held-out loss of the model that ships, rounded for a column."
    )
    artifacts: list[Artifact] = Field(default_factory=list)
    evaluation: list[EvaluationResult] = Field(default_factory=list)
    warnings: Annotated[list[Message], Field(max_length=MAX_WARNINGS)] = Field(default_factory=list)
    resolved: dict[str, str] = Field(
        default_factory=dict,
        description="What planning and the stages decided, by path below spec: training.epochs.",
    )
    versions: dict[str, str] = Field(
        default_factory=dict,
        description="Libraries that the stages used, by ENVIRONMENT/LIBRARY: trainer/torch.",
    )
    model_version: str | None = None
    last_handled_retry_at: Annotated[str, StringConstraints(max_length=MAX_RETRY_VALUE)] | None = (
        Field(
            None,
            description="Value of the annotation `tunesmith.dev/retry-requested-at` that was acted "
            "on last; another one takes a failed job up again.",
        )
    )

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to the job, unless its spec changes."""
        return self.phase in FINAL_PHASES
