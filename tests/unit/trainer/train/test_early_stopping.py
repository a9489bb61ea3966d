"""Training ends once the held-out loss stops falling, by the history alone."""

from pathlib import Path
from typing import Any

import pytest

from small_models import small_model
from small_runs import a_loop, a_train_config, losses
from tunesmith_api.finetunejob.regularization import EarlyStopping
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.early_stopping import refuse_idle_early_stopping, stops_early
from tunesmith_trainer.train.history import History

# On random rows: the held-out loss falls to that of the vocabulary, and then rises.
OVERFITTING: dict[str, Any] = {
    "method": "full",
    "batch": {"size": 8, "microBatchSize": 8},
    "optimizer": {"learningRate": 3e-2},
    "schedule": {"type": "constant", "warmupRatio": 0.0},
    "maxSteps": 60,
    "evaluateEverySteps": 2,
    "earlyStopping": {"patience": 3},
}


class Killed(Exception):  # noqa: N818 - it is what happens, not what is wrong
    """The worker is gone."""


@pytest.mark.parametrize(
    ("held_out", "min_delta", "stops"),
    [
        ([3.0, 2.0, 1.0], 0.0, False),
        ([3.0, 3.0], 0.0, False),
        ([3.0, 3.0, 3.0], 0.0, True),
        ([1.0, 2.0, 0.9, 2.0], 0.0, False),
        ([1.0, 2.0, 2.0, 0.9], 0.0, False),
        # Each falls, but the two together by less than what counts.
        ([3.0, 2.96, 2.92], 0.1, True),
        # Against the lowest that counted, not the one before.
        ([3.0, 2.94, 2.88], 0.1, False),
        ([3.0, 2.5, 2.0], 0.5, False),
        ([], 0.0, False),
    ],
)
def test_patience_counts_evaluations_without_an_improvement(
    held_out: list[float], min_delta: float, *, stops: bool
) -> None:
    rule = EarlyStopping(patience=2, min_delta=min_delta)

    assert stops_early(held_out, rule) is stops
    assert not stops_early(held_out, None)


def test_a_run_ends_early_and_keeps_the_best_weights(tmp_path: Path) -> None:
    loop = a_loop(small_model(), config=a_train_config(training=OVERFITTING), folder=tmp_path)

    history = loop.run()
    loop.load_best()

    assert history.step < 60
    assert history.step == history.best_step + 3 * 2
    assert (tmp_path / f"step-{history.step}").is_dir()
    loop._measure()
    assert history.held_out_losses()[-1] == pytest.approx(history.best_loss, rel=1e-6)


def test_until_it_ends_the_run_is_that_without_the_rule(tmp_path: Path) -> None:
    training = {**OVERFITTING, "earlyStopping": None}
    config = a_train_config(training=OVERFITTING)
    early = a_loop(small_model(), config=config, folder=tmp_path / "a").run()
    whole = a_loop(
        small_model(), config=a_train_config(training=training), folder=tmp_path / "b"
    ).run()

    assert whole.step == 60
    assert losses(whole)[: len(losses(early))] == losses(early)


@pytest.mark.parametrize("within", [1, 3, 5])
def test_a_kill_within_the_patience_changes_nothing(within: int, tmp_path: Path) -> None:
    config = a_train_config(training=OVERFITTING, checkpoint={"everySteps": 1})
    undisturbed = a_loop(small_model(), config=config, folder=tmp_path / "a").run()
    dies_at = undisturbed.best_step + within

    with pytest.raises(Killed):
        a_loop(small_model(), config=config, folder=tmp_path / "b", on_step=_dies_at(dies_at)).run()
    second = a_loop(small_model(seed=9), config=config, folder=tmp_path / "b")
    resumed = second.run()

    assert second.resumed_from == dies_at
    assert losses(resumed) == losses(undisturbed)


def test_a_run_killed_after_it_stopped_early_only_has_to_be_read(tmp_path: Path) -> None:
    config = a_train_config(training=OVERFITTING)
    first = a_loop(small_model(), config=config, folder=tmp_path).run()

    again = a_loop(small_model(), config=config, folder=tmp_path)

    assert losses(again.run()) == losses(first)
    assert again.resumed_from == first.step


def test_a_patience_longer_than_the_run_is_refused() -> None:
    training = {"maxSteps": 20, "earlyStopping": {"patience": 10}}

    with pytest.raises(BadInputError, match="no fewer than the 20 steps"):
        refuse_idle_early_stopping(a_train_config(training=training))

    training["earlyStopping"] = {"patience": 9}
    refuse_idle_early_stopping(a_train_config(training=training))


def _dies_at(step: int) -> Any:
    def on_step(history: History, *, epoch: float) -> None:
        if history.step == step:
            raise Killed

    return on_step
