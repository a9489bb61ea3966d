"""What the report reads out of the stages' artifacts and facts.

Only the fields that are shown, each with a default: an artifact of an older or a newer version is
shown as far as it is understood, and a broken one is left out.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel


class Found(BaseModel):
    """A record of which we show a part; everything else is passed over."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


class CurveLine(Found):
    """One line of curve.jsonl: a training or a held-out loss."""

    step: int
    kind: str
    loss: float


class Sample(Found):
    """A held-out prompt with the wanted answer and those of the models."""

    prompt: str
    reference: str | None = None
    base: str | None = None
    tuned: str | None = None


class Verdict(Found):
    """What a gate demanded, in words, and whether it holds."""

    statement: str
    holds: bool


class EvaluationFile(Found):
    """evaluation.json: the parts that are not in the stage's result."""

    samples: list[Sample] = Field(default_factory=list)
    verdicts: list[Verdict] = Field(default_factory=list)


class MaskedSample(Found):
    """One row as the model sees it; `trained` holds the spans of characters it is trained on."""

    text: str
    trained: list[tuple[int, int]] = Field(default_factory=list)


class LengthHistogram(Found):
    """How many rows have `start + n × width` tokens or more, and fewer than the next bin's."""

    start: Annotated[int, Field(ge=0)]
    width: Annotated[int, Field(ge=1)]
    counts: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=100)]


class PrepareFacts(Found):
    """What prepare found."""

    num_train_rows: int | None = None
    num_validation_rows: int | None = None
    data_digest: str | None = None
    model_digest: str | None = None
    sample: MaskedSample | None = None
    markers: list[str] = Field(default_factory=list)


class TrainFacts(Found):
    """What training came to."""

    method: str | None = None
    precision: str | None = None
    num_steps: int | None = None
    best_step: int | None = None
    tokens_per_second: float | None = None
    trainable_parameters: int | None = None
    resolved: dict[str, str] = Field(default_factory=dict)


class Try(Found):
    """One compression scheme that was tried; recoveries are parts of 1."""

    scheme: str
    recovery: dict[str, float | None] = Field(default_factory=dict)
    min_recovery: float | None = None
    accepted: bool = False
    seconds: float | None = None
    bytes: int | None = None


class CompressFacts(Found):
    """What ships, and what was tried before."""

    scheme: str | None = None
    asked: str | None = None
    tries: list[Try] = Field(default_factory=list)
    merged_bytes: int | None = None
    compressed_bytes: int | None = None


class VerifyFacts(Found):
    """How well vLLM agreed with transformers."""

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


class ParityPrompt(Found):
    """One prompt in both engines."""

    prompt: str
    reference: str = ""
    served: str = ""
    agreement: float | None = None
    mean_logprob_difference: float | None = None


class ParityFile(Found):
    """parity.json: the parts that are not in the stage's facts."""

    min_agreement: float | None = None
    max_logprob_difference: float | None = None
    prompts: list[ParityPrompt] = Field(default_factory=list)


Record = TypeVar("Record", bound=Found)


def read_record(path: Path | None, kind: type[Record]) -> Record | None:
    """The record in a JSON file; None where there is no such file or it is not understood."""
    return as_record(read_json(path), kind)


def as_record(value: JsonValue, kind: type[Record]) -> Record | None:
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
    return [line for line in lines if line is not None and math.isfinite(line.loss)]


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
