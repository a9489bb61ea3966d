"""The budget of forgetting ends a run, and one whose budget is raised goes on."""

from pathlib import Path
from typing import Any

import pytest

from small_models import small_model
from small_runs import a_loop, a_train_config
from tunesmith_api.finetunejob.forgetting import ForgettingBudget
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.train.forgetting_budget import keep_within_budget
from tunesmith_trainer.train.history import History

FULL = {
    "method": "full",
    "batch": {"size": 8, "microBatchSize": 8},
    "optimizer": {"learningRate": 1e-2},
    "maxSteps": 12,
    "evaluateEverySteps": 3,
}


def a_history(kind: str, *values: float) -> History:
    points: list[Any] = [
        {"step": step * 10, "kind": kind, "loss": value} for step, value in enumerate(values)
    ]
    return History(step=10 * (len(values) - 1), points=points)


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        ("general", (2.0, 2.05, 2.2), "maxGeneralLossRise"),
        ("kl", (0.0, 0.05, 0.2), "maxKl"),
    ],
)
def test_a_broken_bound_is_named_with_the_last_step_that_kept_it(
    kind: str, values: tuple[float, ...], field: str
) -> None:
    budget = ForgettingBudget.model_validate({field: 0.1})

    keep_within_budget(a_history(kind, *values[:2]), budget)
    with pytest.raises(VerdictError, match=f"{field} is 0.1; it held until step 10") as caught:
        keep_within_budget(a_history(kind, *values), budget)

    assert caught.value.reason is Reason.FORGETTING_BUDGET_EXCEEDED


def test_what_is_forgotten_less_than_the_base_is_no_forgetting() -> None:
    keep_within_budget(a_history("general", 2.0, 1.5), ForgettingBudget(max_general_loss_rise=0.0))


def test_a_run_ends_and_goes_on_from_its_checkpoint_with_a_larger_budget(tmp_path: Path) -> None:
    """Rows of random tokens: learning some of them makes the others less likely."""
    tight = a_train_config(training={**FULL, "forgettingBudget": {"maxGeneralLossRise": 1e-9}})
    loose = a_train_config(training={**FULL, "forgettingBudget": {"maxGeneralLossRise": 50.0}})

    with pytest.raises(VerdictError) as caught:
        a_loop(small_model(), config=tight, folder=tmp_path).run()
    with pytest.raises(VerdictError, match=caught.value.message.split(":")[0]):
        a_loop(small_model(), config=tight, folder=tmp_path).run()
    resumed = a_loop(small_model(), config=loose, folder=tmp_path)

    assert resumed.run().step == 12
    assert resumed.resumed_from
