"""The suites a model is scored on, and the results that are drawn from its losses.

`evaluate` compares the base with the tuned model, `compress` the tuned model with the quantized
one; both go through here, so the numbers of a job can be laid side by side.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

from transformers import PreTrainedModel

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.data.tokens import TokenRows
from tunesmith_trainer.evaluate.bootstrap import bootstrap, ratio
from tunesmith_trainer.evaluate.log_likelihood import RowLosses, score_rows

HELD_OUT = "heldOut"
GENERAL = "general"
FEW_ROWS = 30

Say = Callable[[str, int, int], None]


def score_suites(
    model: PreTrainedModel, suites: Mapping[str, TokenRows], *, pad_id: int, say: Say
) -> dict[str, RowLosses]:
    """The losses of `model` on each suite; `say(suite, done, total)` is called on the way.

    Raises:
        VerdictError: a loss is infinite or undefined.
    """
    losses = {}
    for suite, rows in suites.items():
        found = score_rows(model, rows, pad_id=pad_id, on_batch=partial(say, suite))
        _refuse_undefined(suite, found)
        losses[suite] = found
    return losses


def mean_loss(losses: RowLosses) -> float:
    """Nats per target token."""
    return ratio(losses.sums, losses.weights)


def loss_results(
    suite: str, losses: RowLosses, *, base: RowLosses, split: str, settings: Bootstrap
) -> list[EvaluationResult]:
    """Loss (nats per target token) and perplexity, whose bounds are those of the loss, raised."""
    value, base_value = mean_loss(losses), mean_loss(base)
    interval = bootstrap(
        losses.sums,
        losses.weights,
        resamples=settings.resamples,
        confidence=settings.confidence,
    )
    loss = EvaluationResult(
        suite=suite,
        split=split,
        metric="loss",
        value=value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        base=base_value,
        n=len(losses.sums),
    )
    return [loss, _perplexity(loss)]


def few_rows_warnings(losses: Mapping[str, RowLosses]) -> list[str]:
    """A warning for each suite that is too small for narrow intervals."""
    return [
        f"{suite} has {len(found.sums)} rows: with fewer than {FEW_ROWS}, intervals are wide."
        for suite, found in losses.items()
        if len(found.sums) < FEW_ROWS
    ]


def _perplexity(loss: EvaluationResult) -> EvaluationResult:
    raised = {
        name: None if nats is None else math.exp(nats)
        for name in ("value", "low", "high", "base")
        for nats in [getattr(loss, name)]
    }
    return loss.model_copy(update={"metric": "perplexity", **raised})


_MAX_LOSS = 100.0


def _refuse_undefined(suite: str, losses: RowLosses) -> None:
    loss = mean_loss(losses)
    if not math.isfinite(loss) or loss > _MAX_LOSS:
        raise VerdictError(
            Reason.LOSS_DIVERGED,
            f"the model's {suite} loss is {loss:g}, so training has destroyed it; lower "
            "training.optimizer.learningRate.",
        )
