"""Progress of a run: shown to people, and the curve so far put on disk, by the first worker.

`worker` hands it to the `loop`. Losing it harms nothing; the curve in the checkpoints counts.
"""

import time
from pathlib import Path

from tunesmith_engine.stages.contracts import Reporter
from tunesmith_trainer.train.curve import write_curve
from tunesmith_trainer.train.history import History

_CURVE_INTERVAL_S = 2.0


class ProgressWatcher:
    """Reports every step and writes the curve every other second, and at the end."""

    def __init__(self, reporter: Reporter, *, num_steps: int, curve: Path) -> None:
        self._reporter = reporter
        self._num_steps = num_steps
        self._curve = curve
        self._first_step: int | None = None
        self._started = time.monotonic()
        self._curve_written = -_CURVE_INTERVAL_S

    def __call__(self, history: History, *, epoch: float) -> None:
        """Show the state after `history.step` steps."""
        if self._first_step is None:
            self._first_step = history.step
        self._reporter.progress(
            "training",
            step=history.step,
            total_steps=self._num_steps,
            epoch=round(epoch, 3),
            eta_s=self._remaining_s(history.step),
            metrics=_metrics(history),
        )
        is_due = time.monotonic() - self._curve_written >= _CURVE_INTERVAL_S
        if is_due or history.step == self._num_steps:
            write_curve(self._curve, history.points)
            self._curve_written = time.monotonic()

    def _remaining_s(self, step: int) -> float | None:
        done = step - (self._first_step or 0)
        if done == 0:
            return None
        return round((time.monotonic() - self._started) / done * (self._num_steps - step), 1)


def silent(history: History, *, epoch: float) -> None:
    """For the workers that show nothing."""
    del history, epoch


def _metrics(history: History) -> dict[str, float]:
    found = {"loss": history.latest("train"), "heldOutLoss": history.latest("heldOut")}
    last_step = next((each for each in reversed(history.points) if each["kind"] == "train"), {})
    for name in ("tokensPerSecond", "learningRate"):
        value = last_step.get(name)
        found[name] = value if isinstance(value, float) else None
    return {name: value for name, value in found.items() if value is not None}
