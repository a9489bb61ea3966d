"""The budget of forgetting: bounds on how far a run may move from its base.

A pure function of the history, so that a run that was killed after it had gone too far ends when it
is taken up again, unless the budget was raised.
"""

from tunesmith_api.finetunejob.forgetting import ForgettingBudget
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.train.history import GENERAL, KL, History


def keep_within_budget(history: History, budget: ForgettingBudget | None) -> None:
    """Return if the last evaluation keeps every bound.

    Raises:
        VerdictError: it breaks one; the message names the last step that kept all of them.
    """
    if budget is None:
        return
    bounds = {GENERAL: budget.max_general_loss_rise, KL: budget.max_kl}
    names = {GENERAL: "the general loss has risen by", KL: "KL(base || tuned) is"}
    fields = {GENERAL: "maxGeneralLossRise", KL: "maxKl"}
    for kind, bound in bounds.items():
        rises = history.rises(kind)
        if bound is None or not rises or rises[-1][1] <= bound:
            continue
        within = max((step for step, rise in rises if rise <= bound), default=0)
        raise VerdictError(
            Reason.FORGETTING_BUDGET_EXCEEDED,
            f"step {history.step}: {names[kind]} {rises[-1][1]:.4f} nats, and training."
            f"forgettingBudget.{fields[kind]} is {bound:g}; it held until step {within}. Lower "
            "training.optimizer.learningRate, add dataset.replay or training.klToBase, or raise it",
        )
