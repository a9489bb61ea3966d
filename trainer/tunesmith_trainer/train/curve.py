"""The loss curve: what `loop` measured, step by step; kept in checkpoints, written as JSON lines.

A line is `{"step", "kind": "train", "loss", "learningRate", "gradNorm", "tokens",
"tokensPerSecond", "seconds"}` or `{"step", "kind": "heldOut", "loss"}`. Losses are mean nats per
target token; `tokens` are the real tokens of the step's rows; `seconds` count training alone.
"""

import json
from pathlib import Path

from pydantic import JsonValue

from tunesmith_engine.stages.reporter import write_atomically

Point = dict[str, JsonValue]


def train_point(
    step: int, *, loss: float, rate: float, grad_norm: float, tokens: int, seconds: float
) -> Point:
    """What one optimizer step showed."""
    return {
        "step": step,
        "kind": "train",
        "loss": loss,
        "learningRate": rate,
        "gradNorm": grad_norm,
        "tokens": tokens,
        "tokensPerSecond": round(tokens / seconds, 1) if seconds > 0 else 0.0,
        "seconds": round(seconds, 4),
    }


def held_out_point(step: int, *, loss: float) -> Point:
    """The held-out loss after `step` steps; step 0 is the base model."""
    return {"step": step, "kind": "heldOut", "loss": loss}


def write_curve(path: Path, curve: list[Point]) -> None:
    """Replace `path` with the curve, a line for each point."""
    write_atomically(path, "".join(json.dumps(point) + "\n" for point in curve))


def read_curve(path: Path) -> list[Point]:
    """The points of a file that `write_curve` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
