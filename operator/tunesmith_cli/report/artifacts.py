"""What the report reads out of the stages' artifacts and facts, and how it reads them.

Only the fields that are shown, each with a default: an artifact of an older or a newer version is
shown as far as it is understood, and a broken one is left out. `job_data.py` knows where they lie.
The facts of a stage that has no record here are shown as they stand.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel


class Record(BaseModel):
    """A record of which we show a part; everything else is passed over."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


class FoldFacts(Record):
    """A fold of a cross-validation: how many rows it held out."""

    rows: int = 0


class MeanLoss(Record):
    """A mean over folds with its interval."""

    mean: float
    low: float
    high: float


class FoldsFacts(Record):
    """What cross-validation found; nothing before all folds have ended."""

    held_out_loss: MeanLoss | None = None
    folds: list[FoldFacts] = Field(default_factory=list)
    median_best_step: float = 0.0


class CurveLine(Record):
    """One line of curve.jsonl: a loss that is trained on or measured."""

    step: int
    kind: str
    loss: float


class Sample(Record):
    """A held-out prompt with the wanted answer and those of the models."""

    prompt: str
    reference: str | None = None
    base: str | None = None
    tuned: str | None = None
    managed: str | None = None


class GateResult(Record):
    """What a gate demanded, in words, and whether it holds."""

    statement: str
    holds: bool


class SweptPoint(Record):
    """Losses of weights between base (0) and tuned model (1)."""

    alpha: float
    held_out: float
    general: float


class SweepFile(Record):
    """The sweep between both models' weights, and its knee."""

    points: Annotated[list[SweptPoint], Field(min_length=2, max_length=100)]
    knee: SweptPoint | None = None
    conclusion: str = ""


class JudgeRecord(Record):
    """How often the judge preferred which answer, and what asking it took."""

    model: str
    tuned: int
    base: int
    tie: int
    nonsense: int = 0
    inconsistent: int = 0
    identical: int = 0
    first_share: float | None = None
    first_share_interval: tuple[float, float] | None = None
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None


class ThousandRequests(Record):
    """What a thousand requests take of a model."""

    prompt_tokens: int
    completion_tokens: int
    price: float | None = None


class MakeOrBuy(Record):
    """The tuned model beside a managed one."""

    model: str
    per_thousand_requests: dict[str, ThousandRequests] = Field(default_factory=dict)


class FairnessNumber(Record):
    """One measure of bias; `neutral` is where no bias leaves it, and null of what is not judged."""

    suite: str
    metric: str
    part: str = ""
    licence: str | None = None
    neutral: float | None = None
    value: float
    interval: tuple[float, float] | None = None
    base: float | None = None
    change: tuple[float, float] | None = None
    p_adjusted: float | None = None
    flagged: bool = False
    rows: int = 0


class FairnessRecord(Record):
    """What was measured of one model, and what either model's general loss is."""

    confidence: float = 0.95
    general_loss: dict[str, float] = Field(default_factory=dict)
    numbers: list[FairnessNumber] = Field(default_factory=list)


class RobustnessNumber(Record):
    """One measure of prompts under an attack; `clean` is the same rows as they are."""

    attack: str
    measure: str
    value: float
    interval: tuple[float, float] | None = None
    base: float | None = None
    change: tuple[float, float] | None = None
    rows: int = 0


class RobustnessRecord(Record):
    """What attacked prompts did to one model; `metric` is that of its answers."""

    metric: str | None = None
    numbers: list[RobustnessNumber] = Field(default_factory=list)


class HighlightsRecord(Record):
    """How much of what moves one model's answers lies on highlights; parts of 1."""

    share: float
    interval: tuple[float, float] | None = None
    base: float | None = None
    change: tuple[float, float] | None = None
    chance: float | None = None
    rows: int = 0


class EvaluationFile(Record):
    """evaluation.json: the parts that are not in the stage's result."""

    metric: str | None = None
    samples: list[Sample] = Field(default_factory=list)
    verdicts: list[GateResult] = Field(default_factory=list)
    interpolation: SweepFile | None = None
    fairness: FairnessRecord | None = None
    robustness: RobustnessRecord | None = None
    highlights: HighlightsRecord | None = None
    judge: JudgeRecord | None = None
    reference: MakeOrBuy | None = None


class RowScores(Record):
    """What each row of a suite was scored: sums over `weights`; lists are in the order of `rows`.

    `rows` are digests.
    """

    suite: str
    metric: str
    rows: list[str]
    weights: list[float]
    base: list[float]
    tuned: list[float]


class MaskedSample(Record):
    """One row as the model sees it; `trained` holds the spans of characters it is trained on."""

    text: str
    trained: list[tuple[int, int]] = Field(default_factory=list)


class LengthHistogram(Record):
    """How many rows have `start + n × width` tokens or more, and fewer than the next bin's."""

    # Bounded: it is drawn, and a file that says a million bins must not make a page of them.
    start: Annotated[int, Field(ge=0)]
    width: Annotated[int, Field(ge=1)]
    counts: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=100)]


class PrepareFacts(Record):
    """What prepare saw of the data and the model; `markers` are the template's special tokens."""

    data_digest: str | None = None
    model_digest: str | None = None
    parent_digest: str | None = None
    markers: list[str] = Field(default_factory=list)


class EstimateFact(Record):
    """A difference of losses with its interval."""

    value: float
    low: float | None = None
    high: float | None = None


class RemedyFact(Record):
    """A remedy that was on: its field, its value, the outcome of the run, what it cost."""

    remedy: str
    setting: str = ""
    effect: dict[str, EstimateFact] = Field(default_factory=dict)
    cost: dict[str, float] = Field(default_factory=dict)


class ControlFacts(Record):
    """What the remedies changed beside a run without them; `seconds` is what that run took."""

    steps: int
    without: list[str] = Field(default_factory=list)
    differences: dict[str, EstimateFact] = Field(default_factory=dict)
    seconds_per_step: float = 0.0
    seconds: float = 0.0


class PreferenceFacts(Record):
    """What DPO came to on the held-out pairs, at the best step."""

    margin: float | None = None
    accuracy: float | None = None


class PackingProofFacts(Record):
    """What packing changed on some rows, as parts of the loss and of the gradient's norm."""

    rows: int | None = None
    loss_difference: float | None = None
    gradient_difference: float | None = None


class PackingFacts(Record):
    """Whether rows lay end to end; the shares are padding, of the tokens computed."""

    packing: str | None = None
    padding_share: float | None = None
    padding_share_unpacked: float | None = None
    proof: PackingProofFacts | None = None


class TokenFacts(Record):
    """Tokens of all steps: real ones, those of them that were targets, and padding beside them."""

    total: int
    trained: int
    padding: int = 0


class GradNormFacts(Record):
    """Norms of the gradients before clipping."""

    median: float
    max: float


class MemoryFacts(Record):
    """Peaks of the first worker; of its device where it has one."""

    resident_bytes: int
    device_bytes: int | None = None


class TrainFacts(Record):
    """What training came to."""

    outcome: dict[str, EstimateFact] = Field(default_factory=dict)
    remedies: list[RemedyFact] = Field(default_factory=list)
    control: ControlFacts | None = None
    best_step: int | None = None
    tokens_per_second: float | None = None
    tokens: TokenFacts | None = None
    mfu: float | None = None
    grad_norm: GradNormFacts | None = None
    peak_memory: MemoryFacts | None = None
    trainable_parameters: int | None = None
    preference: PreferenceFacts | None = None
    packing: PackingFacts | None = None


class RatesFacts(Record):
    """Tokens/s: the slowest round, their median and the fastest; `ratio` is of the medians."""

    compressed: tuple[float, float, float]
    unquantized: tuple[float, float, float]
    ratio: float


class SpeedFacts(Record):
    """A quantized model beside itself unquantized, in the vLLM that will serve."""

    scheme: str
    requests: int
    pays: bool
    alone: RatesFacts
    together: RatesFacts


class GuessingRates(Record):
    """Tokens a second, as above, with guessed tokens and without; a guess costs part of a pass."""

    guessing: tuple[float, float, float]
    plain: tuple[float, float, float]
    ratio: float
    cost_of_guess: float | None = None


class GuessingFacts(Record):
    """What guessed tokens brought, in the vLLM that will serve."""

    method: str
    tokens: int
    guessed: int
    taken: int
    acceptance: float
    tokens_per_pass: float
    same_tokens: int
    compared_tokens: int
    requests: int
    pays: bool
    alone: GuessingRates
    together: GuessingRates


class VerifyFacts(Record):
    """How well vLLM agreed with transformers, and how fast it was."""

    agreement: float | None = None
    mean_logprob_difference: float | None = None
    num_prompts: int | None = None
    num_tokens: int | None = None
    num_agreed: int | None = None
    agreement_interval: tuple[float, float] | None = None
    kernel: str | None = None
    enforce_eager: bool | None = None
    vllm_version: str | None = None
    load_seconds: float | None = None
    speed: SpeedFacts | None = None
    guessing: GuessingFacts | None = None


class ParityPrompt(Record):
    """One prompt in both engines."""

    prompt: str
    reference: str = ""
    served: str = ""
    agreement: float | None = None
    mean_logprob_difference: float | None = None


class ParityFile(Record):
    """parity.json: the parts that are not in the stage's facts."""

    min_agreement: float | None = None
    max_logprob_difference: float | None = None
    prompts: list[ParityPrompt] = Field(default_factory=list)


KnownRecord = TypeVar("KnownRecord", bound=Record)


def read_records(path: Path | None, kind: type[KnownRecord]) -> list[KnownRecord]:
    """The records in the list of a JSON file; those that are not understood are left out."""
    listed = read_json(path)
    known = (as_record(value, kind) for value in (listed if isinstance(listed, list) else ()))
    return [record for record in known if record is not None]


def read_record(path: Path | None, kind: type[KnownRecord]) -> KnownRecord | None:
    """The record in a JSON file; None where there is no such file or it is not understood."""
    return as_record(read_json(path), kind)


def as_record(value: JsonValue, kind: type[KnownRecord]) -> KnownRecord | None:
    """The record that a JSON value holds; None where it is not understood."""
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None


def read_json(path: Path | None) -> JsonValue:
    """The value in a JSON file; None where there is no such file, or it is no JSON."""
    text = _text(path)
    return _parsed(text) if text else None


def read_curve(path: Path | None) -> list[CurveLine]:
    """The lines of curve.jsonl that are whole; the last one may still be written."""
    lines = (as_record(_parsed(line), CurveLine) for line in _text(path).splitlines())
    # A loss that is not finite has no place on a chart; that it diverged, the job's reason says.
    return [line for line in lines if line is not None and math.isfinite(line.loss)]


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        # A file that is broken in the middle is still shown as far as it goes.
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # of which JSONDecodeError is a kind
        return None
