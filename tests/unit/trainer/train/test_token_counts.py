"""Tokens of a step: real ones, targets, and places that are padding."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from small_models import small_model
from small_runs import a_loop, a_train_config, random_rows
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.dataloader import collate
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.objectives.pairs import Pairs
from tunesmith_trainer.train.packing import end_to_end
from tunesmith_trainer.train.progress import ProgressReporter
from tunesmith_trainer.train.token_counts import TokenCounts, count_tokens

CPU = torch.device("cpu")
TRAINING = {
    "method": "full",
    "batch": {"size": 8, "microBatchSize": 2},
    "maxSteps": 3,
    "evaluateEverySteps": 3,
}


def test_what_follows_the_last_target_is_no_input_and_neither_is_that_target() -> None:
    rows = TokenRows.of(
        [
            ([1, 2, 3, 4, 5], [False, False, True, True, False]),
            ([6, 7], [False, True]),
        ]
    )

    assert count_tokens(rows, [0, 1]) == TokenCounts(total=7, trained=3, inputs=4, attended=10)


def test_places_are_those_that_the_model_is_given() -> None:
    tokens = random_rows(6)
    objective = CrossEntropy(tokens, device=CPU)
    packed = CrossEntropy(tokens, device=CPU, lay_out=partial(end_to_end, max_tokens=1000))
    batch = collate(tokens, [0, 1, 2], pad_id=0, device=CPU)

    assert objective.num_positions([0, 1, 2]) == batch.input_ids.numel()
    assert packed.num_positions([0, 1, 2]) == packed.collated([0, 1, 2]).input_ids.numel()
    assert objective.token_counts([0, 1, 2]).inputs == int(batch.row_lengths[:, 0].sum())
    assert objective.token_counts([0, 1, 2]).trained == objective.num_units([0, 1, 2])


def test_lines_of_an_accelerator_are_padded_to_whole_lines_of_its_cache() -> None:
    tokens, accelerator = random_rows(6), torch.device("meta")
    objective = CrossEntropy(tokens, device=accelerator)
    packed = CrossEntropy(tokens, device=accelerator, lay_out=partial(end_to_end, max_tokens=1000))

    for measured in (objective, packed):
        ids = measured.collated([0, 1, 2]).input_ids
        assert ids.shape[1] % 64 == 0
        assert measured.num_positions([0, 1, 2]) == ids.numel()


def test_places_of_packed_rows_are_those_of_their_lines() -> None:
    tokens, lay_out = random_rows(6), partial(end_to_end, max_tokens=200)
    objective = CrossEntropy(tokens, device=CPU, lay_out=lay_out)
    batch = collate(tokens, [0, 1, 2], pad_id=0, device=CPU, lay_out=lay_out)

    assert len(batch.input_ids) < 3
    assert objective.num_positions([0, 1, 2]) == batch.input_ids.numel()


def test_both_answers_of_a_pair_count() -> None:
    chosen, rejected = random_rows(3), random_rows(3, seed=1)

    counts = Pairs(chosen, rejected, device=CPU).token_counts([2])

    assert counts.total == int(chosen.lengths[2] + rejected.lengths[2])
    assert counts.trained == sum(int(side.row(2)[1].sum()) for side in (chosen, rejected))


def test_a_run_adds_up_what_its_steps_had(tmp_path: Path) -> None:
    config = a_train_config(training=TRAINING)
    history = a_loop(small_model(), config=config, folder=tmp_path).run()

    steps = [point for point in history.points if point["kind"] == "train"]
    assert history.tokens == sum(int(str(step["tokens"])) for step in steps)
    assert history.trained_tokens == random_rows(24).num_targets  # one epoch
    assert history.padding == sum(int(str(step["padding"])) for step in steps) > 0
    assert history.peak_resident >= max(int(str(step["residentBytes"])) for step in steps)
    # On a processor nobody knows the peak, and a device there is none.
    assert history.mfu is None
    assert all("mfu" not in step and "peakDeviceBytes" not in step for step in steps)


def test_a_resumed_run_counts_on(tmp_path: Path) -> None:
    config = a_train_config(training=TRAINING, checkpoint={"everySteps": 1})
    whole = a_loop(small_model(), config=config, folder=tmp_path / "whole").run()

    a_loop(small_model(), config=config, folder=tmp_path / "half", last_step=2).run()
    resumed = a_loop(small_model(), config=config, folder=tmp_path / "half").run()

    assert (resumed.tokens, resumed.trained_tokens, resumed.padding) == (
        whole.tokens,
        whole.trained_tokens,
        whole.padding,
    )


class _Told:
    def __init__(self) -> None:
        self.message, self.metrics = "", dict[str, float]()

    def progress(self, message: str, **told: Any) -> None:
        self.message, self.metrics = message, dict(told["metrics"])


def test_progress_tells_tokens_gradient_and_memory(tmp_path: Path) -> None:
    told = _Told()
    history = a_loop(
        small_model(),
        config=a_train_config(training=TRAINING),
        folder=tmp_path,
        on_step=ProgressReporter(told, total_steps=3, curve=tmp_path / "curve.jsonl"),
    ).run()

    assert told.metrics["tokens"] == history.tokens
    assert told.metrics["padding"] == history.padding
    assert told.metrics["gradNorm"] == history.numbers("gradNorm")[-1]
    assert told.metrics["peakResidentBytes"] == history.peak_resident
    assert np.isfinite(list(told.metrics.values())).all()
    # As many as the API takes.
    assert len(told.metrics) <= 16
