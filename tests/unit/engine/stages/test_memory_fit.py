"""How a step is cut for the memory there is: rows first, then layers that are computed again."""

from dataclasses import replace
from typing import Any

import pytest

from manifests import a_job
from small_models import SMOL
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.stages.memory import Workload
from tunesmith_engine.stages.memory_fit import fit_of, settle, ways_to_fit
from tunesmith_engine.stages.training_memory import worker_memory

GIB = 1 << 30


def workload(*, longest_row: int = 512, resources: Any = None, **training: Any) -> Workload:
    job = a_job(training={"precision": "fp32", **training}, resources=resources or {})
    return Workload(FineTuneJob.model_validate(job).spec.with_defaults(), SMOL, longest_row)


def cut(work: Workload, *, room: float | None) -> tuple[int, int, str]:
    """Passes, rows of each, and the layers that are computed again."""
    spec = settle(work, room=None if room is None else int(room))
    fit = fit_of(Workload(spec, work.facts, work.longest_row))
    return fit.accumulated, fit.micro_batch_size, fit.gradient_checkpointing


def test_a_teacher_takes_its_own_size_and_the_models_until_it_is_known() -> None:
    teacher = {"model": {"uri": "file:///teacher"}}
    plain, taught = workload(), workload(distillation={"teacher": teacher})
    larger = replace(taught, teacher=3 * SMOL.num_parameters)

    alone, beside, beside_larger = (worker_memory(work).weights for work in (plain, taught, larger))

    assert beside - alone == 4 * SMOL.num_parameters
    assert beside_larger - alone == 12 * SMOL.num_parameters


def peak_of(work: Workload, **fields: Any) -> int:
    training = {"batch": {"microBatchSize": fields.pop("rows")}, **fields}
    return worker_memory(workload(**training)).total


def test_with_room_enough_nothing_is_computed_again() -> None:
    assert cut(workload(), room=64 * GIB) == (4, 4, "none")
    assert cut(workload(), room=None) == (4, 4, "none")


def test_with_less_room_there_are_fewer_rows_and_then_layers_that_are_computed_again() -> None:
    """The room is just that of the cut, and the margin of the estimate."""
    cuts = [(4, 4, "none"), (8, 2, "none"), (16, 1, "none")]
    cuts += [(16, 1, "every4"), (16, 1, "every2"), (16, 1, "all")]
    for expected in cuts:
        _, rows, level = expected
        room = 1.11 * peak_of(workload(), rows=rows, gradientCheckpointing=level)
        assert cut(workload(), room=room) == expected


def test_where_nothing_fits_it_is_what_takes_least() -> None:
    assert cut(workload(), room=1) == (16, 1, "all")


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"batch": {"microBatchSize": 2}}, (8, 2, "all")),
        ({"gradientCheckpointing": "every3"}, (16, 1, "every3")),
        (
            {"batch": {"size": 6, "microBatchSize": 4}, "gradientCheckpointing": "none"},
            (2, 4, "none"),
        ),
    ],
)
def test_what_the_manifest_says_is_kept(training: Any, expected: tuple[int, int, str]) -> None:
    assert cut(workload(**training), room=1) == expected


def test_an_accelerator_gets_as_many_rows_as_it_has_room_for() -> None:
    one = {"gpusPerWorker": 1}

    assert cut(workload(resources=one), room=64 * GIB) == (1, 16, "none")
    assert cut(workload(resources={"workers": 2, **one}), room=64 * GIB) == (1, 8, "none")
    # Of one of unknown size nobody assumes the best.
    assert cut(workload(resources=one), room=None) == (4, 4, "none")


def test_checkpointing_takes_less_memory_the_more_layers_have_it() -> None:
    levels = ("none", "every8", "every2", "all")
    peaks = [peak_of(workload(), rows=4, gradientCheckpointing=level) for level in levels]

    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < 0.7 * peaks[0]


def test_what_would_fit_is_told_from_mild_to_hard_with_its_figures() -> None:
    both = "training.batch.microBatchSize: 1 with training.gradientCheckpointing: all"
    ways = ways_to_fit(workload(longest_row=600, method="full"))

    assert [way.change for way in ways] == [
        "training.batch.microBatchSize: 1",
        "training.gradientCheckpointing: all",
        both,
        "training.method: lora",
        f"training.sequenceLength: 300 with {both}",
        f"training.sequenceLength: 150 with {both}",
    ]
    plain = worker_memory(workload(longest_row=600, method="full")).total
    assert all(way.worker_bytes < plain for way in ways)


def test_where_least_is_taken_already_only_shorter_rows_are_left() -> None:
    work = workload(batch={"microBatchSize": 1}, gradientCheckpointing="all")

    assert [way.change for way in ways_to_fit(work)] == [
        "training.sequenceLength: 256",
        "training.sequenceLength: 128",
    ]


def test_on_accelerators_weights_may_be_held_otherwise() -> None:
    two = {"workers": 2, "gpusPerWorker": 1}
    others = ["training.parallelism: fsdp", "training.lora.quantization: nf4"]
    work = workload(resources=two)
    ways = {way.change: way.worker_bytes for way in ways_to_fit(work)}

    assert [change for change in ways if change in others] == others
    assert max(ways[change] for change in others) < worker_memory(work).total
    sharded = workload(resources=two, parallelism="fsdp")
    assert not {way.change for way in ways_to_fit(sharded)} & set(others)


def test_frozen_weights_take_the_bytes_of_their_type() -> None:
    linear = SMOL.num_parameters - SMOL.vocab_size * SMOL.hidden_size
    types: list[dict[str, Any]] = [{}, {"precision": "bf16"}, {"lora": {"quantization": "nf4"}}]
    fp32, bf16, nf4 = (worker_memory(workload(**training)).weights for training in types)

    assert fp32 - bf16 == 2 * linear
    assert fp32 - nf4 == pytest.approx((4 - 4.127 / 8) * linear, abs=1)


def test_moments_of_eight_bits_take_a_quarter() -> None:
    plain, eight = (
        worker_memory(workload(method="full", optimizer={"type": kind})).optimizer
        for kind in ("adamw", "adamw_8bit")
    )

    assert plain == 4 * eight


@pytest.mark.parametrize("method", ["lora", "full"])
def test_shards_are_parts_but_for_what_a_pass_needs_whole(method: str) -> None:
    one, four = (
        worker_memory(workload(resources={"workers": 4}, method=method, parallelism=kind))
        for kind in ("ddp", "fsdp")
    )

    assert one.optimizer // 4 == four.optimizer
    embeddings = 4 * SMOL.vocab_size * SMOL.hidden_size
    assert embeddings < four.weights < one.weights
    assert (four.activations, four.loss) == (one.activations, one.loss)
