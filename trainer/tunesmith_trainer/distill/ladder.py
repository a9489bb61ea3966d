"""What the model was at each step of the way down, and the gate that judges the last of them.

A step is scored on the suites of `evaluate`, and compared with the tuned model by the divergence of
their answers to the held-out rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.finetunejob.prune import PruneGate
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.memory import BF16
from tunesmith_trainer.evaluate.bootstrap import bootstrap, ratio
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.evaluate.suites import HELD_OUT, loss_results, mean_loss

PRUNED: Final = "pruned"
RECOVERED: Final = "distilled"
_KL: Final = "kl"


@dataclass(frozen=True, slots=True)
class Rung:
    """A model on the way: its losses by suite, and its divergence from the tuned one by row."""

    split: str
    num_parameters: int
    losses: Mapping[str, RowLosses]
    divergence: RowLosses | None = None

    def loss(self, suite: str) -> float:
        """Nats per target token."""
        return mean_loss(self.losses[suite])

    @property
    def kl(self) -> float:
        """KL(tuned || this) in nats per target token of held-out rows; 0 of the tuned model."""
        return mean_loss(self.divergence) if self.divergence else 0.0

    def as_json(self) -> dict[str, JsonValue]:
        """As facts and `distillation.json` have it."""
        return {
            "model": self.split,
            "parameters": self.num_parameters,
            "bytes": BF16 * self.num_parameters,
            "losses": {suite: self.loss(suite) for suite in self.losses},
            "kl": self.kl,
        }

    def results(self, *, tuned: "Rung", settings: Bootstrap) -> list[EvaluationResult]:
        """Each number beside that of the tuned model, with its interval."""
        results = [
            result
            for suite, losses in self.losses.items()
            for result in loss_results(
                suite, losses, base=tuned.losses[suite], split=self.split, settings=settings
            )
        ]
        return [*results, *self._divergence_result(settings)]

    def _divergence_result(self, settings: Bootstrap) -> list[EvaluationResult]:
        if self.divergence is None:
            return []
        sums, weights = self.divergence.sums, self.divergence.weights
        interval = bootstrap(
            sums, weights, resamples=settings.resamples, confidence=settings.confidence
        )
        return [
            EvaluationResult(
                suite=HELD_OUT,
                split=self.split,
                metric=_KL,
                value=ratio(sums, weights),
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                base=0.0,
                n=len(sums),
            )
        ]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The tuned model, what was left of it, and that after recovery."""

    tuned: Rung
    pruned: Rung
    recovered: Rung

    def recovery(self, suite: str) -> float:
        """The tuned model's loss divided by the recovered model's, at most 1."""
        return min(1.0, self.tuned.loss(suite) / self.recovered.loss(suite))

    def gap_recovered(self, suite: str) -> float | None:
        """Which part of the loss that pruning added is gone again; None where it added none."""
        added = self.pruned.loss(suite) - self.tuned.loss(suite)
        won = self.pruned.loss(suite) - self.recovered.loss(suite)
        return won / added if added > 0 else None

    @property
    def told(self) -> str:
        """What was left, in figures for people."""
        losses = [rung.loss(HELD_OUT) for rung in (self.tuned, self.pruned, self.recovered)]
        tuned, pruned, reached = (f"{loss:.4f}" for loss in losses)
        return (
            f"{self.recovered.num_parameters:,} of {self.tuned.num_parameters:,} parameters; "
            f"held-out loss {tuned} before, {pruned} pruned, {reached} recovered"
        )

    def shortfalls(self, gate: PruneGate) -> list[str]:
        """Which bounds the recovered model breaks, in words."""
        broken, kept = [], self.recovery(HELD_OUT)
        if kept < gate.min_recovery:
            broken.append(
                f"the recovered model keeps {kept:.4f} of the tuned model's held-out loss, less "
                f"than the bound of {gate.min_recovery:g} (spec.compression.prune.gate.minRecovery)"
            )
        if gate.max_kl is not None and self.recovered.kl > gate.max_kl:
            broken.append(
                f"the recovered model is {self.recovered.kl:.4f} nats per token from the tuned "
                f"one, more than the bound of {gate.max_kl:g} "
                "(spec.compression.prune.gate.maxKl)"
            )
        return broken
