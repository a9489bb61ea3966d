"""What has happened in a run so far: the part of its state that is numbers, not tensors.

`loop` fills it, `snapshot` keeps it in checkpoints, `stage` makes the facts of it.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from tunesmith_trainer.train.curve import Point, held_out_point


@dataclass(slots=True)
class History:
    """Counts, the curve, and the best step.

    `tokens` and `seconds` count training alone, over all workers and over interrupted runs.
    `best_loss` is the lowest held-out loss after a training step and `best_step` that step;
    None and 0 before the first evaluation.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_loss: float | None = None
    points: list[Point] = field(default_factory=list)

    def record_held_out(self, loss: float) -> bool:
        """Note the held-out loss after the current step; whether it is the best so far.

        Step 0, the base model, is measured but never the best: a run keeps something trained.
        """
        self.points.append(held_out_point(self.step, loss=loss))
        if self.step == 0 or (self.best_loss is not None and loss >= self.best_loss):
            return False
        self.best_step, self.best_loss = self.step, loss
        return True

    def record_step(self, point: Point, *, tokens: int, seconds: float) -> None:
        """Note one finished optimizer step."""
        self.step += 1
        self.tokens += tokens
        self.seconds += seconds
        self.points.append(point)

    def latest(self, kind: str) -> float | None:
        """The last loss of that kind: train or heldOut."""
        for point in reversed(self.points):
            if point["kind"] == kind and isinstance(point["loss"], float):
                return point["loss"]
        return None

    def held_out_at(self, step: int) -> float:
        """The held-out loss after `step` steps.

        Raises:
            KeyError: it was not measured there.
        """
        for point in self.points:
            if point["kind"] == "heldOut" and point["step"] == step:
                return float(str(point["loss"]))
        raise KeyError(f"no held-out loss was measured after step {step}")

    def as_state(self) -> dict[str, Any]:
        """JSON that `History(**state)` reads back, with the same bits in every number."""
        return asdict(self)
