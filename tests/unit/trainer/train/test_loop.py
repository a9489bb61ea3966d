"""The loop: one gradient however the batch is cut, exact resumption, an end when it diverges."""

from pathlib import Path
from typing import Any

import pytest
import torch

from small_models import small_model
from small_runs import a_loop, a_train_config, losses
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.train.history import History

FULL = {
    "method": "full",
    "batch": {"size": 8, "microBatchSize": 2},
    "optimizer": {"learningRate": 1e-2},
    "maxSteps": 12,
    "evaluateEverySteps": 3,
}


class Killed(Exception):  # noqa: N818 - it is what happens, not what is wrong
    """The worker is gone."""


def test_micro_batches_add_up_to_one_big_batch(tmp_path: Path) -> None:
    curves = [
        losses(
            a_loop(
                small_model(),
                config=a_train_config(
                    training={**FULL, "batch": {"size": 8, "microBatchSize": size}}
                ),
                folder=tmp_path / str(size),
            ).run()
        )
        for size in (1, 3, 8)
    ]

    for other in curves[1:]:
        for got, expected in zip(other, curves[0], strict=True):
            assert got["loss"] == pytest.approx(expected["loss"], rel=1e-4)
            assert got.get("gradNorm", 0.0) == pytest.approx(
                expected.get("gradNorm", 0.0), rel=1e-3
            )


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_resumed_run_has_the_curve_of_an_undisturbed_one_to_the_last_bit(
    tmp_path: Path, *, asynchronous: bool
) -> None:
    config = a_train_config(
        training=FULL, checkpoint={"everySteps": 4, "asynchronous": asynchronous}
    )
    undisturbed = a_loop(_with_dropout(), config=config, folder=tmp_path / "a").run()

    with pytest.raises(Killed):
        a_loop(_with_dropout(), config=config, folder=tmp_path / "b", on_step=_dies_at(11)).run()
    second = a_loop(_with_dropout(seed=9), config=config, folder=tmp_path / "b")
    resumed = second.run()

    assert second.resumed_from == 8
    assert losses(resumed) == losses(undisturbed)
    assert resumed.best_step == undisturbed.best_step


def test_it_is_told_how_far_measuring_is(tmp_path: Path) -> None:
    parts: list[float] = []
    config = a_train_config(training={**FULL, "maxSteps": 1})

    def on_measuring(history: History, part: float) -> None:
        parts.append(part)

    a_loop(small_model(), config=config, folder=tmp_path, on_measuring=on_measuring).run()

    once = len(parts) // 2  # before the first step, and after it
    assert parts[:once] == parts[once:] == sorted(parts[:once])
    assert parts[once - 1] == pytest.approx(1.0)


def test_the_dropout_of_that_test_is_at_work(tmp_path: Path) -> None:
    config = a_train_config(training=FULL)
    with_dropout = a_loop(_with_dropout(), config=config, folder=tmp_path / "a").run()
    without = a_loop(small_model(), config=config, folder=tmp_path / "b").run()

    assert losses(with_dropout) != losses(without)


def test_a_run_killed_after_its_last_step_only_has_to_be_read(tmp_path: Path) -> None:
    config = a_train_config(training=FULL)
    first = a_loop(small_model(), config=config, folder=tmp_path).run()

    again = a_loop(small_model(), config=config, folder=tmp_path)

    assert losses(again.run()) == losses(first)
    assert again.resumed_from == 12


def test_training_lowers_the_held_out_loss_and_the_best_step_is_kept(tmp_path: Path) -> None:
    config = a_train_config(training={**FULL, "maxSteps": 30})
    model = small_model()
    loop = a_loop(model, config=config, folder=tmp_path)

    history = loop.run()
    loop.load_best()

    held_out = {
        point["step"]: point["loss"] for point in losses(history) if point["kind"] == "heldOut"
    }
    assert set(held_out) == {0, *range(3, 31, 3)}
    assert history.best_loss == min(loss for step, loss in held_out.items() if step)
    assert held_out[history.best_step] == history.best_loss
    assert (tmp_path / f"step-{history.best_step}").is_dir()
    assert loop._measure() is False
    assert history.held_out_losses()[-1] == pytest.approx(history.best_loss, rel=1e-6)


def test_tokens_are_counted_without_padding(tmp_path: Path) -> None:
    """Three steps of eight rows read all 24 rows once."""
    config = a_train_config(training={**FULL, "maxSteps": 3})
    loop = a_loop(small_model(), config=config, folder=tmp_path)

    assert loop.run().tokens == int(loop._objective.lengths.sum())


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    model = small_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("inf"))

    with pytest.raises(VerdictError, match="learningRate") as caught:
        a_loop(model, config=a_train_config(training=FULL), folder=tmp_path).run()

    assert caught.value.reason is Reason.LOSS_DIVERGED
    assert not list(tmp_path.glob("step-*"))


def _dies_at(step: int) -> Any:
    def on_step(history: History, *, epoch: float) -> None:
        if history.step == step:
            raise Killed

    return on_step


def _with_dropout(*, seed: int = 0) -> Any:
    model = small_model(seed=seed)
    for layer in model.model.layers:
        layer.mlp.down_proj = torch.nn.Sequential(torch.nn.Dropout(0.3), layer.mlp.down_proj)
    return model
