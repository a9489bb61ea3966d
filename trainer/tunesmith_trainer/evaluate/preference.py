"""The preference suite: does the tuned model prefer the chosen answers of held-out pairs?

Three numbers, from the losses of both answers under both models. `margin` is the mean reward of the
chosen answer less that of the rejected one, where a reward is beta times what the log-probability
gained on the base; `accuracy` the part of the pairs with a positive margin. Of the base they are 0
and one half by definition. `rankingAccuracy` needs no base: the part of the pairs whose chosen
answer is the likelier one (Chen et al. 2024, arXiv 2405.19534), which DPO often leaves low.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.results import EvaluationResult
from tunesmith_trainer.evaluate.bootstrap import bootstrap, ratio
from tunesmith_trainer.evaluate.log_likelihood import RowLosses

PREFERENCE: Final = "preference"
# The rows of the rejected answers among the scored suites; no loss of theirs is a result.
REJECTED: Final = "rejected"


@dataclass(frozen=True, slots=True)
class PairLosses:
    """Losses of the chosen and the rejected answers of the same pairs, under one model."""

    chosen: RowLosses
    rejected: RowLosses

    @property
    def preferred_by(self) -> NDArray[np.float64]:
        """Nats by which the chosen answer is likelier, shape (pairs,)."""
        return self.rejected.sums - self.chosen.sums


def preference_results(
    tuned: PairLosses, *, base: PairLosses, beta: float, settings: Bootstrap
) -> list[EvaluationResult]:
    """Every number of the suite, with intervals over pairs."""
    margins = beta * (tuned.preferred_by - base.preferred_by)
    by_metric = {
        "margin": (margins, np.zeros_like(margins)),
        "accuracy": (_share_right(margins), _share_right(np.zeros_like(margins))),
        "rankingAccuracy": (_share_right(tuned.preferred_by), _share_right(base.preferred_by)),
    }
    return [
        _result(metric, of_tuned, base=of_base, settings=settings)
        for metric, (of_tuned, of_base) in by_metric.items()
    ]


def _share_right(preferred_by: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the chosen answer is preferred, 0 where the other is, one half for a tie."""
    return np.sign(preferred_by) / 2 + 0.5


def _result(
    metric: str,
    values: NDArray[np.float64],
    *,
    base: NDArray[np.float64],
    settings: Bootstrap,
) -> EvaluationResult:
    ones = np.ones_like(values)
    interval = bootstrap(values, ones, resamples=settings.resamples, confidence=settings.confidence)
    return EvaluationResult(
        suite=PREFERENCE,
        split="tuned",
        metric=metric,
        value=ratio(values, ones),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        base=float(base.mean()),
        n=len(values),
    )
