"""The curve in the words of trackers: a row of named numbers for each step.

Names are those of transformers' Trainer and TRL where they have one, so that runs of either stand
in one chart with ours.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, Protocol

from tunesmith_trainer.train.history import (
    ACCURACY,
    ATTACKED,
    GENERAL,
    HELD_OUT,
    KL,
    MARGIN,
    OFF_HIGHLIGHTS,
    PAIRED_GAP,
    RATIONALE,
    TRAIN_SAMPLE,
    Point,
)

_OF_STEP: Final[Mapping[str, str]] = {
    "loss": "train/loss",
    "learningRate": "train/learning_rate",
    "gradNorm": "train/grad_norm",
    "tokens": "train/tokens",
    "trainedTokens": "train/trained_tokens",
    "padding": "train/padding_tokens",
    "tokensPerSecond": "train/tokens_per_second",
    "mfu": "train/mfu",
    "residentBytes": "train/resident_bytes",
    "peakDeviceBytes": "train/peak_device_bytes",
}
_OF_MEASURE: Final[Mapping[str, str]] = {
    HELD_OUT: "eval/loss",
    TRAIN_SAMPLE: "eval/train_sample_loss",
    GENERAL: "eval/general_loss",
    KL: "eval/kl_to_base",
    ATTACKED: "eval/attacked_loss",
    PAIRED_GAP: "eval/paired_gap",
    RATIONALE: "eval/rationale_loss",
    OFF_HIGHLIGHTS: "eval/off_highlights",
    MARGIN: "eval/rewards/margins",
    ACCURACY: "eval/rewards/accuracies",
}

Ending = Literal["finished", "failed"]


@dataclass(frozen=True, slots=True)
class Row:
    """All numbers of one optimizer step; 0 is the base model."""

    step: int
    values: Mapping[str, float]


def rows_of(points: Iterable[Point]) -> Iterator[Row]:
    """A row for each step of these points of the curve."""
    for step, of_step in groupby(points, key=lambda point: int(str(point["step"]))):
        values: dict[str, float] = {}
        for point in of_step:
            values |= _named(point)
        yield Row(step, values)


def _named(point: Point) -> dict[str, float]:
    kind = str(point["kind"])
    if kind != "train":
        name = _OF_MEASURE.get(kind, f"eval/{kind}")
        return {name: float(str(point["loss"]))}
    return {name: float(str(point[field])) for field, name in _OF_STEP.items() if field in point}


class Tracker(Protocol):
    """One place where rows go; its calls may take long and may fail."""

    def open(self) -> None:
        """Begin the run there, or go on with the one that an earlier attempt began."""
        ...

    def log(self, rows: list[Row]) -> None:
        """Log rows, in order of step; those that are there already are passed over.

        What has failed is given again, whole.
        """
        ...

    def close(self, ending: Ending) -> None:
        """Say how the run ended."""
        ...
