"""Progress of a run: shown to people, and the curve so far put on disk, by the first worker.

`worker` hands it to the `loop`, which calls it after every step. Losing it harms nothing; the curve
in the checkpoints counts.
"""

import time
from pathlib import Path

from tunesmith_engine.stages.contracts import Reporter
from tunesmith_trainer.train.history import (
    ATTACKED,
    GENERAL,
    HELD_OUT,
    KL,
    OFF_HIGHLIGHTS,
    PAIRED_GAP,
    RATIONALE,
    TRAIN_SAMPLE,
    History,
)

_CURVE_INTERVAL_S = 2.0
_MEASURED = (
    HELD_OUT,
    TRAIN_SAMPLE,
    GENERAL,
    KL,
    ATTACKED,
    PAIRED_GAP,
    RATIONALE,
    OFF_HIGHLIGHTS,
)
# Between messages while losses are measured: shorter evaluations are not worth a word.
_MEASURING_INTERVAL_S = 2.0


class ProgressReporter:
    """Reports every step and writes the curve every other second; `worker` does at the end.

    `total_steps` are those of all runs of the stage, `steps_before` those of runs before this one.
    """

    def __init__(
        self,
        reporter: Reporter,
        *,
        total_steps: int,
        curve: Path,
        message: str = "training",
        steps_before: int = 0,
    ) -> None:
        self._reporter = reporter
        self._message = message
        self._total_steps = total_steps
        self._steps_before = steps_before
        self._curve = curve
        self._first_step: int | None = None
        self._started = time.monotonic()
        self._curve_written = -_CURVE_INTERVAL_S
        self._told = time.monotonic()

    def __call__(self, history: History, *, epoch: float) -> None:
        """Show the state after `history.step` steps."""
        if self._first_step is None:
            self._first_step = history.step
        step = self._steps_before + history.step
        # By the steps that this process did: a resumed run knows nothing of the machine before.
        done, eta_s = history.step - self._first_step, None
        if done > 0:
            seconds_per_step = (time.monotonic() - self._started) / done
            eta_s = round(seconds_per_step * (self._total_steps - step), 1)
        self._reporter.progress(
            self._message,
            step=step,
            total_steps=self._total_steps,
            epoch=round(epoch, 3),
            eta_s=eta_s,
            metrics=_metrics(history),
        )
        self._told = time.monotonic()
        is_due = time.monotonic() - self._curve_written >= _CURVE_INTERVAL_S
        if is_due:
            history.write_curve(self._curve)
            self._curve_written = time.monotonic()

    def measuring(self, history: History, part: float) -> None:
        """Show that losses are measured, if that takes long."""
        if time.monotonic() - self._told < _MEASURING_INTERVAL_S:
            return
        self._told = time.monotonic()
        self._reporter.progress(
            f"measuring {part:.0%}",
            step=self._steps_before + history.step,
            total_steps=self._total_steps,
            metrics=_metrics(history),
        )


def _metrics(history: History) -> dict[str, float]:
    train = history.latest("train") or {}
    # NB: of those that are measured. To look for another goes through the whole curve.
    held_out, sample, general, kl, attacked, paired_gap, rationale, off_highlights = (
        (history.latest(kind) or {}).get("loss") if kind in history.units else None
        for kind in _MEASURED
    )
    metrics = {
        "loss": train.get("loss"),
        "heldOutLoss": held_out,
        "gap": held_out - sample
        if isinstance(held_out, float) and isinstance(sample, float)
        else None,
        "generalLoss": general,
        "kl": kl,
        "attackedLoss": attacked,
        "pairedGap": paired_gap,
        "rationaleLoss": rationale,
        "offHighlights": off_highlights,
        "tokensPerSecond": train.get("tokensPerSecond"),
        "mfu": train.get("mfu"),
        "gradNorm": train.get("gradNorm"),
        "learningRate": train.get("learningRate"),
        "tokens": float(history.tokens),
        "trainedTokens": float(history.trained_tokens),
        "padding": float(history.padding),
        "peakResidentBytes": float(history.peak_resident),
        "peakDeviceBytes": None if history.peak_device is None else float(history.peak_device),
    }
    return {name: value for name, value in metrics.items() if isinstance(value, float)}
