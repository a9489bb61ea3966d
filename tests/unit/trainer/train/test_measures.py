"""What is measured beside the held-out rows: fixed samples, whose cost has a bound."""

from pathlib import Path

import pytest

from prepare_stage import prepare_request
from small_models import make_tiny_model
from small_runs import ALONE, random_rows
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.train.history import GENERAL, HELD_OUT, TRAIN_SAMPLE
from tunesmith_trainer.train.measures import build_measures, sample_of
from tunesmith_trainer.train.packing import one_per_line


def test_a_sample_has_as_many_targets_as_asked_for_and_is_the_same_every_time() -> None:
    rows = random_rows(50)

    sample = sample_of(rows, num_targets=100)

    assert 100 <= sample.num_targets < 100 + 30
    assert (sample.input_ids == sample_of(rows, num_targets=100).input_ids).all()
    known = {tuple(rows.row(row)[0]) for row in range(50)}
    drawn = [tuple(sample.row(row)[0]) for row in range(len(sample))]
    assert set(drawn) <= known
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(("num_targets", "num_rows"), [(1, 1), (10_000, 50)])
def test_a_sample_has_at_least_one_row_and_at_most_all(num_targets: int, num_rows: int) -> None:
    assert len(sample_of(random_rows(50), num_targets=num_targets)) == num_rows


def test_held_out_rows_are_measured_beside_as_much_of_training_and_general_text(
    tmp_path: Path,
) -> None:
    prepared = Prepared(
        model=make_tiny_model(tmp_path / "model"),
        train=random_rows(200),
        validation=random_rows(20, seed=1),
        folder=tmp_path,
    )
    request = prepare_request(tmp_path, model="file://model")

    measures = build_measures(
        request, prepared, device=ALONE.device, lay_out_of=lambda _: one_per_line
    )

    targets = {
        kind: measure.num_units(list(range(len(measure.lengths))))
        for kind, measure in measures.items()
    }
    assert set(targets) == {HELD_OUT, TRAIN_SAMPLE, GENERAL}
    assert targets[HELD_OUT] == prepared.validation.num_targets
    assert 0 <= targets[TRAIN_SAMPLE] - targets[HELD_OUT] < 30
    assert 512 <= targets[GENERAL] < 512 + 30
    assert measures[GENERAL].lengths.max() <= prepared.train.lengths.max()
