"""A run that destroys the model is ended early, and told what to do; one with spikes goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from small_models import small_model
from small_runs import a_loop, a_train_config
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.train.divergence import refuse_exploded_measures, refuse_exploded_training
from tunesmith_trainer.train.history import HELD_OUT, History

# Of SmolLM2-135M, by benchmarks/divergence.py: its `curves`.
RECORDED: dict[str, dict[str, list[tuple[int, float]]]] = json.loads(
    Path(__file__).with_name("loss_curves.json").read_text(encoding="utf-8")
)
VOCABULARY = 49_152
FULL = {
    "method": "full",
    "batch": {"size": 8, "microBatchSize": 2},
    "optimizer": {"learningRate": 1.0},
    "maxSteps": 40,
    "evaluateEverySteps": 2,
}
TRAINING = a_train_config(training=FULL).training


def stopped_at(curves: dict[str, list[tuple[int, float]]], *, measured: bool = True) -> int | None:
    """The first step that a rule ends; `measured` says whether there are evaluations after 0."""
    last = curves["train"][-1][0]
    for step in range(last + 1):
        points: list[Any] = [
            {"step": at, "kind": kind, "loss": loss}
            for kind, of_kind in curves.items()
            for at, loss in of_kind
            if at <= step and (measured or kind == "train" or at == 0)
        ]
        history = History(step=step, points=points)
        try:
            refuse_exploded_training(history, training=TRAINING, vocabulary_size=VOCABULARY)
            if measured and any(at == step for at, _ in curves[HELD_OUT]):
                refuse_exploded_measures(history, training=TRAINING)
        except VerdictError:
            return step
    return None


def test_no_run_ends_that_still_learns_something() -> None:
    for name, curves in RECORDED.items():
        held_out = [loss for _, loss in curves[HELD_OUT]]
        if held_out[-1] < held_out[0]:
            assert stopped_at(curves) is None, name
            assert stopped_at(curves, measured=False) is None, name


@pytest.mark.parametrize("name", [name for name in RECORDED if name.endswith(" 0.5")])
def test_an_explosion_is_seen_at_the_first_evaluation_or_within_twenty_steps(name: str) -> None:
    curves = RECORDED[name]

    assert stopped_at(curves) == curves[HELD_OUT][1][0]
    assert stopped_at(curves, measured=False) == 20


def a_history(*train: float, held_out: tuple[float, float] = (2.0, 2.0)) -> History:
    first: list[Any] = [{"step": 0, "kind": HELD_OUT, "loss": held_out[0]}]
    steps: list[Any] = [
        {"step": at, "kind": "train", "loss": loss} for at, loss in enumerate(train, 1)
    ]
    last: Any = {"step": len(train), "kind": HELD_OUT, "loss": held_out[1]}
    return History(step=len(train), points=[*first, *steps, last])


def test_a_spike_of_nine_steps_is_none_and_held_out_rows_alone_may_be_overfitted() -> None:
    spiked = a_history(*[2.0] * 20, *[50.0] * 9, *[2.0] * 11)
    for step in range(1, 41):
        points = [point for point in spiked.points if int(str(point["step"])) <= step]
        so_far = History(step=step, points=points)
        refuse_exploded_training(so_far, training=TRAINING, vocabulary_size=VOCABULARY)

    refuse_exploded_measures(a_history(*[0.01] * 40, held_out=(2.0, 9.0)), training=TRAINING)


def test_without_a_sample_of_trained_rows_the_training_loss_stands_in_for_it() -> None:
    with pytest.raises(VerdictError, match="held-out loss was 2"):
        refuse_exploded_measures(a_history(*[9.0] * 4, held_out=(2.0, 9.0)), training=TRAINING)


def test_a_rate_that_destroys_the_model_ends_the_run_with_another_one_to_try(
    tmp_path: Path,
) -> None:
    loop = a_loop(small_model(), config=a_train_config(training=FULL), folder=tmp_path)

    with pytest.raises(VerdictError) as caught:
        loop.run()

    assert caught.value.reason is Reason.LOSS_DIVERGED
    assert "the held-out loss was 4." in caught.value.message
    assert "checkpoint" not in caught.value.message
    assert "lower training.optimizer.learningRate from 1 to 2e-05" in caught.value.message
    assert loop._history.step <= 8


def test_a_step_that_beat_the_base_is_named() -> None:
    history = a_history(*[9.0] * 4, held_out=(2.0, 9.0))
    history.best_step, history.best_loss = 2, 1.5

    with pytest.raises(VerdictError, match="step 2, whose checkpoint is kept, has 1"):
        refuse_exploded_measures(history, training=TRAINING)


def test_a_destroyed_model_has_no_checkpoint(tmp_path: Path) -> None:
    model = small_model()

    def destroy(history: History, **_: Any) -> None:
        if history.step == 4:
            with torch.no_grad():
                model.lm_head.weight.mul_(100.0)

    good = a_train_config(training={**FULL, "optimizer": {"learningRate": 1e-2}})

    with pytest.raises(VerdictError, match="step 6: the held-out"):
        a_loop(model, config=good, folder=tmp_path, on_step=destroy).run()

    assert max(path.name for path in tmp_path.glob("step-*")) == "step-4"


@pytest.mark.parametrize("micro_batch_size", [1, 2])
def test_a_loss_that_is_no_number_names_step_rows_and_the_last_checkpoint(
    tmp_path: Path, micro_batch_size: int
) -> None:
    gentle = {**FULL, "optimizer": {"learningRate": 1e-3}, "maxSteps": 6}
    batch = {"size": 8, "microBatchSize": micro_batch_size}
    config = a_train_config(training={**gentle, "batch": batch}, checkpoint={"everySteps": 1})
    loop = a_loop(small_model(), config=config, folder=tmp_path)
    # Of the third step, which ends the first epoch: no step before has it.
    row = loop._sampler.rows_of(3)[0]
    loop._objective = _UndefinedRow(loop._objective, row=row)

    with pytest.raises(VerdictError) as caught:
        loop.run()

    named = caught.value.message.split(" of rows ")[1].split(";")[0].split(", ")
    assert f"rows.jsonl:{row}" in named
    assert len(named) == micro_batch_size
    assert caught.value.message.startswith("step 3: training loss nan")
    assert "the checkpoint of step 2 is kept" in caught.value.message
    assert (tmp_path / "step-2").is_dir()


def test_a_gradient_that_is_no_number_names_the_whole_batch(tmp_path: Path) -> None:
    model = small_model()
    model.model.norm.weight.register_hook(lambda gradient: gradient * torch.inf)

    with pytest.raises(VerdictError, match="step 1: training loss 4") as caught:
        a_loop(model, config=a_train_config(training=FULL), folder=tmp_path).run()

    assert caught.value.message.count("rows.jsonl:") == 8


class _UndefinedRow:
    """An objective whose loss of one row is undefined."""

    def __init__(self, objective: Any, *, row: int) -> None:
        self._objective = objective
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        loss: torch.Tensor = self._objective.summed_loss(model, rows)
        return loss * torch.nan if self._row in rows else loss
