"""Early stopping by patience (Prechelt 1998, in: Neural Networks: Tricks of the Trade).

A pure function of the held-out losses so far, so that a run that was killed within its patience
waits no longer, and no shorter, than one that was not.
"""

from collections.abc import Sequence

from tunesmith_api.finetunejob.regularization import EarlyStopping
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.config import TrainConfig


def stops_early(held_out: Sequence[float], rule: EarlyStopping | None) -> bool:
    """Whether the last `patience` of these losses have brought no improvement.

    `held_out` are the token-weighted losses of all evaluations after training steps, in order. An
    improvement is a loss more than `min_delta`, or exactly it where that is not 0, below the lowest
    one that counted as an improvement before.
    """
    if rule is None:
        return False
    best, waited = float("inf"), 0
    for loss in held_out:
        is_improvement = loss < best and best - loss >= rule.min_delta
        best, waited = (loss, 0) if is_improvement else (best, waited + 1)
    return waited >= rule.patience


def refuse_idle_early_stopping(config: TrainConfig) -> None:
    """Return if the rule could end this run before its last step.

    Raises:
        BadInputError: there are too few evaluations for its patience.
    """
    rule = config.training.early_stopping
    if rule is None or rule.patience * config.evaluate_every < config.num_steps:
        return
    raise BadInputError(
        Reason.INVALID_SPEC,
        f"training.earlyStopping.patience: {rule.patience} evaluations, one every "
        f"{config.evaluate_every} steps, are no fewer than the {config.num_steps} steps of the "
        "whole run, so it could never stop; lower it, or training.evaluateEverySteps",
    )
