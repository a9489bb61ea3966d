"""What the stages that make a model smaller leave, as the report reads it."""

from pydantic import Field

from tunesmith_api.results import ExportedFormat
from tunesmith_cli.report.artifacts import (
    FairnessRecord,
    HighlightsRecord,
    Record,
    RobustnessRecord,
)


class LadderRung(Record):
    """A model on the way down; losses in nats per target token, `kl` from the tuned one."""

    model: str
    parameters: int = 0
    bytes: int = 0
    losses: dict[str, float] = Field(default_factory=dict)
    kl: float = 0.0


class ShapeFacts(Record):
    """How many layers, channels of each, heads of keys of each, and tokens."""

    layers: int = 0
    channels: int = 0
    kv_heads: int = 0
    tokens: int = 0


class CutFacts(Record):
    """A shape before and behind the cut."""

    before: ShapeFacts = ShapeFacts()
    after: ShapeFacts = ShapeFacts()


class RatioTried(Record):
    """A ratio of a ladder, and the recovered model that came of it."""

    ratio: float
    accepted: bool = False
    bytes: int
    loss: float


class DistillFacts(Record):
    """What was pruned, and what came back; parts of 1 by suite."""

    accepted: bool = False
    shape: CutFacts | None = None
    ladder: list[LadderRung] = Field(default_factory=list)
    tried: list[RatioTried] = Field(default_factory=list)
    recovery: dict[str, float] = Field(default_factory=dict)
    gap_recovered: dict[str, float | None] = Field(default_factory=dict)
    min_recovery: float = 0.0
    objective: str = ""
    logits: str = ""
    num_steps: int = 0
    best_step: int | None = None
    tokens: int = 0
    seconds: float = 0.0


class SchemeTried(Record):
    """One compression scheme that was tried; recoveries are parts of 1."""

    scheme: str
    recovery: dict[str, float | None] = Field(default_factory=dict)
    losses: dict[str, float] = Field(default_factory=dict)
    min_recovery: float | None = None
    accepted: bool = False
    kl: float | None = None
    kept_layers: list[str] = Field(default_factory=list)
    seconds: float | None = None
    bytes: int | None = None


class CompressFacts(Record):
    """What ships, and what was tried before."""

    scheme: str | None = None
    tries: list[SchemeTried] = Field(default_factory=list)
    merged_bytes: int | None = None
    compressed_bytes: int | None = None
    fairness: FairnessRecord | None = None
    robustness: RobustnessRecord | None = None
    highlights: HighlightsRecord | None = None


class ExportFacts(Record):
    """The formats for devices."""

    formats: list[ExportedFormat] = Field(default_factory=list)
