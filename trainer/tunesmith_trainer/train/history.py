"""What has happened in a run so far: the part of its state that is numbers, not tensors.

`loop` fills it, `train_state` keeps it in checkpoints, `progress` shows it, `stage` makes the facts
of it. Its points are the loss curve, which is also an artifact of JSON lines: a line is `{"step",
"kind": "train", "loss", "learningRate", "gradNorm", "tokens", "trainedTokens", "padding",
"tokensPerSecond", "mfu", "residentBytes", "peakDeviceBytes", "seconds"}` or `{"step", "kind":
"heldOut", "loss"}`, and so for the kinds `trainSample` and `general` and whatever else is measured.
Losses are mean nats per target token, or per pair for preferences; `tokens` are the real tokens of
the step's rows, and `padding` the other places that were computed; `mfu` and `peakDeviceBytes` are
only there where they are known; memory is that of the first worker; `seconds` count training alone.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from pydantic import JsonValue

from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.train.memory_usage import MemoryUsage
from tunesmith_trainer.train.token_counts import TokenCounts

Point = dict[str, JsonValue]
# A number for each row of a measure, by its kind. Lists and floats: they are kept as JSON.
RowNumbers = dict[str, list[float]]

# The kind of the points that pick the best step.
HELD_OUT: Final = "heldOut"
# Training rows, measured as the held-out ones are: what those have more is the gap.
TRAIN_SAMPLE: Final = "trainSample"
# Text that has nothing to do with the task.
GENERAL: Final = "general"
# KL(base || tuned) of the held-out rows' targets; 0 at the base.
KL: Final = "kl"
# KL(teacher || tuned) of the held-out rows' targets, where the job learns from one.
TEACHER_KL: Final = "teacherKl"
# Held-out rows whose inputs are moved to where their loss is highest.
ATTACKED: Final = "attacked"
# Held-out rows with one group's terms and with another's: how far apart their losses are.
PAIRED_GAP: Final = "pairedGap"
# Rationales of held-out rows.
RATIONALE: Final = "rationale"
# Of held-out rows, the part of what moves the answer that is on no highlight.
OFF_HIGHLIGHTS: Final = "offHighlights"
# Of preferences: the mean reward of chosen answers less that of rejected ones, and the part of the
# pairs where it is positive.
MARGIN: Final = "margin"
ACCURACY: Final = "accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one optimizer step was, over all workers.

    `positions` are the places that its forward passes computed; `mfu` is a part of 1, None where
    the device's peak is not known; `memory` is that of the worker that notes the step.
    """

    loss: float
    rate: float
    grad_norm: float
    tokens: TokenCounts
    positions: int
    seconds: float
    mfu: float | None
    memory: MemoryUsage

    def as_point(self, number: int) -> Point:
        """The line of the curve, without what is not known."""
        total, seconds = self.tokens.total, self.seconds
        point: Point = {
            "step": number,
            "kind": "train",
            "loss": self.loss,
            "learningRate": self.rate,
            "gradNorm": self.grad_norm,
            "tokens": total,
            "trainedTokens": self.tokens.trained,
            "padding": self.positions - self.tokens.inputs,
            "tokensPerSecond": round(total / seconds, 1) if seconds > 0 else 0.0,
            "mfu": self.mfu,
            "residentBytes": self.memory.resident,
            "peakDeviceBytes": self.memory.peak_device,
            "seconds": round(seconds, 4),
        }
        return {name: value for name, value in point.items() if value is not None}


@dataclass(slots=True)
class History:
    """Counts, the curve, and the best step.

    `tokens`, `trained_tokens`, `padding` and `seconds` count training alone, over all workers and
    over interrupted runs. The peaks of memory are those of the first worker, in bytes.
    `best_loss` is the lowest held-out loss after a training step and `best_step` that step;
    None and 0 before the first evaluation. By kind of measure, row by row: `units` are what each
    row's loss is a sum over, `base_sums` the losses after step 0, `best_sums` those at the best
    step, `compared_sums` those that a control run is compared with. `group_weights` is how much
    each group of rows counts, where that moves.
    """

    step: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    padding: int = 0
    seconds: float = 0.0
    peak_resident: int = 0
    peak_device: int | None = None
    best_step: int = 0
    best_loss: float | None = None
    points: list[Point] = field(default_factory=list)
    units: RowNumbers = field(default_factory=dict)
    base_sums: RowNumbers = field(default_factory=dict)
    best_sums: RowNumbers = field(default_factory=dict)
    compared_sums: RowNumbers = field(default_factory=dict)
    group_weights: list[float] = field(default_factory=list)

    def record_measures(self, sums: RowNumbers, *, is_compared: bool = False) -> bool:
        """Note the rows' losses after the current step; whether the held-out loss is the best.

        `is_compared` keeps them for the comparison with a control run, in place of earlier ones.
        Step 0, the base model, is measured but never the best: a run keeps something trained.
        """
        losses = {kind: sum(rows) / sum(self.units[kind]) for kind, rows in sums.items()}
        self.points += [
            {"step": self.step, "kind": kind, "loss": loss} for kind, loss in losses.items()
        ]
        held_out = losses[HELD_OUT]
        if is_compared:
            self.compared_sums = sums
        if self.step == 0:
            self.base_sums = sums
            return False
        if self.best_loss is not None and held_out >= self.best_loss:
            return False
        self.best_step, self.best_loss, self.best_sums = self.step, held_out, sums
        return True

    def record_step(self, step: Step) -> None:
        """Note one more optimizer step."""
        self.step += 1
        self.tokens += step.tokens.total
        self.trained_tokens += step.tokens.trained
        self.padding += step.positions - step.tokens.inputs
        self.seconds += step.seconds
        self.peak_resident = max(self.peak_resident, step.memory.peak_resident)
        if step.memory.peak_device is not None:
            self.peak_device = max(self.peak_device or 0, step.memory.peak_device)
        self.points.append(step.as_point(self.step))

    def numbers(self, name: str) -> list[float]:
        """A number of every step that has it, in order: gradNorm, say."""
        return [
            float(str(point[name]))
            for point in self.points
            if point["kind"] == "train" and name in point
        ]

    @property
    def mfu(self) -> float | None:
        """Of all steps together; None where the device's peak is not known."""
        # A run that was resumed on another machine has it for some of its steps.
        steps = [
            (float(str(point["mfu"])), float(str(point["seconds"])))
            for point in self.points
            if "mfu" in point
        ]
        seconds = sum(took for _, took in steps)
        return sum(mfu * took for mfu, took in steps) / seconds if seconds else None

    def latest(self, kind: str) -> Point | None:
        """The last point of that kind: train, or one that is measured."""
        return next((point for point in reversed(self.points) if point["kind"] == kind), None)

    def held_out_losses(self) -> list[float]:
        """The held-out loss of every evaluation after a training step, in order."""
        return [
            float(str(point["loss"]))
            for point in self.points
            if point["kind"] == HELD_OUT and point["step"] != 0
        ]

    def rises(self, kind: str) -> list[tuple[int, float]]:
        """Step and value above that of the base, of every measure of this kind, in order."""
        points = [
            (int(str(point["step"])), float(str(point["loss"])))
            for point in self.points
            if point["kind"] == kind
        ]
        return [(step, loss - points[0][1]) for step, loss in points]

    def median_seconds(self, steps: int) -> float:
        """Seconds that one of the first `steps` steps took, in the median."""
        return median(
            float(str(point["seconds"]))
            for point in self.points
            if point["kind"] == "train" and int(str(point["step"])) <= steps
        )

    def held_out_at(self, step: int) -> float:
        """The held-out loss after `step` steps; step 0 is the base model.

        Raises:
            KeyError: it was not measured there.
        """
        return self.measured_at(step, kind=HELD_OUT)

    def measured_at(self, step: int, *, kind: str) -> float:
        """What was measured of that kind after `step` steps.

        Raises:
            KeyError: nothing was.
        """
        for point in self.points:
            if point["kind"] == kind and point["step"] == step:
                return float(str(point["loss"]))
        raise KeyError(f"no {kind} was measured after step {step}")

    def as_state(self) -> dict[str, Any]:
        """JSON that `History(**state)` reads back, with the same bits in every number."""
        return asdict(self)

    def write_curve(self, path: Path) -> None:
        """Replace `path` with the curve, a line for each point."""
        write_atomically(path, "".join(json.dumps(point) + "\n" for point in self.points))
