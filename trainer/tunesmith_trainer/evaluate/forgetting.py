"""Whether a model has forgotten what its base knew, by the loss on general text.

No gate bounds that by default, for how much may be forgotten depends on the task; but who did not
ask shall be told.
"""

from collections.abc import Sequence
from typing import Final

from tunesmith_api.finetunejob.evaluation import Bootstrap, Gate
from tunesmith_trainer.evaluate.bootstrap import bootstrap, ratio
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.evaluate.suites import GENERAL

# Nats a token; the perplexity rises by a tenth.
NOTABLE_RISE: Final = 0.1


def forgetting_warnings(
    tuned: RowLosses, *, base: RowLosses, gates: Sequence[Gate], settings: Bootstrap
) -> list[str]:
    """A warning if the loss has surely risen by more than `NOTABLE_RISE`, and no gate bounds it."""
    if any(gate.suite == GENERAL for gate in gates):
        return []
    rises = tuned.sums - base.sums
    interval = bootstrap(
        rises,
        base.weights,
        resamples=settings.resamples,
        confidence=settings.confidence,
    )
    if interval is None or interval.low <= NOTABLE_RISE:
        return []
    return [
        (
            f"the loss on general text has risen by {ratio(rises, base.weights):.3f} nats "
            f"({interval.low:.3f} to {interval.high:.3f}): the model forgets what the base knew. "
            "Lower training.optimizer.learningRate, or add dataset.replay, training.klToBase or "
            "training.forgettingBudget; a gate of the suite general refuses such a model."
        )
    ]
