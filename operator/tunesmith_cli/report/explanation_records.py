"""What the stage `explain` leaves, as `artifacts` is of the others: facts, explanations.json."""

from typing import Annotated

from pydantic import Field

from tunesmith_cli.report.artifacts import Record


class ExplainedMethod(Record):
    """How one method did, the mean over rows."""

    method: str
    deletion_area: float
    deletion_random: float
    deletion_beats: float
    insertion_area: float
    insertion_random: float
    insertion_beats: float
    stability: float | None = None


class EffectRecord(Record):
    """What a place, or a word, adds to answers."""

    place: str = ""
    word: str = ""
    rows: int
    effect: float
    standard_error: float | None = None


class GlobalRecord(Record):
    """The view over many rows."""

    rows: int = 0
    places: list[EffectRecord] = Field(default_factory=list)
    words: list[EffectRecord] = Field(default_factory=list)


class SurrogateWord(Record):
    """A word that a simpler model looks at."""

    word: str
    weight: float


class SurrogateModel(Record):
    """One simpler model, and how well it foretells the tuned one."""

    model: str
    fidelity: float
    interval: tuple[float, float]
    constant: float
    num_words: int = 0
    occlusion_rank: float | None = None
    words: list[SurrogateWord] = Field(default_factory=list)
    rules: str = ""


class SurrogateRecord(Record):
    """The simpler models of what the tuned model decides."""

    metric: str = ""
    fitted_rows: int = 0
    judged_rows: int = 0
    reason: str = ""
    models: list[SurrogateModel] = Field(default_factory=list)


class ExplainFacts(Record):
    """What the stage `explain` says of all its rows."""

    rows: int = 0
    passes: int = 0
    skipped: dict[str, int] = Field(default_factory=dict)
    methods: list[ExplainedMethod] = Field(default_factory=list)
    view: Annotated[GlobalRecord, Field(alias="global")] = GlobalRecord()
    surrogate: SurrogateRecord | None = None
    show_text: bool = False


class UnitRecord(Record):
    """A part of a prompt."""

    text: str = ""
    role: str = ""
    turn: int = 0
    place: int = 0


class ScoresRecord(Record):
    """What a method says of each unit."""

    method: str
    scores: list[float] = Field(default_factory=list)


class ExplainedRowRecord(Record):
    """One explained row."""

    row: int
    source: str = ""
    loss: float = 0.0
    unit_kind: str = "units"
    units: list[UnitRecord] = Field(default_factory=list)
    methods: list[ScoresRecord] = Field(default_factory=list)


class ExplanationsFile(Record):
    """explanations.json."""

    rows: list[ExplainedRowRecord] = Field(default_factory=list)
    surrogate: SurrogateRecord | None = None
    view: Annotated[GlobalRecord, Field(alias="global")] = GlobalRecord()
