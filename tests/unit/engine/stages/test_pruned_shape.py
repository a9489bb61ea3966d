"""How much of each axis is left, by a ratio or by a bound, and what is refused."""

from typing import Any

import pytest

from manifests import a_job
from small_models import SMOL
from tunesmith_api.finetunejob.compression import Compression
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.estimates import estimate
from tunesmith_engine.stages.pruned_shape import (
    Shape,
    UnfitCutError,
    pruned_facts,
    pruned_shape,
)
from tunesmith_engine.stages.recovery_spec import recovering

WHOLE = Shape(layers=30, channels=1536, kv_heads=3)


def count(shape: Shape) -> int:
    """A model of which nothing but these three counts."""
    return shape.layers * (shape.channels + 100 * shape.kv_heads)


def left(*, quantize: dict[str, Any] | None = None, **prune: Any) -> Shape:
    given = {"prune": prune, "quantize": quantize or {}}
    compression = Compression.model_validate(given).with_defaults()
    return pruned_shape(compression, WHOLE, num_parameters=count)


@pytest.mark.parametrize(
    ("prune", "expected"),
    [
        ({}, Shape(24, 1536, 3)),
        ({"ratio": 0.5}, Shape(15, 1536, 3)),
        ({"ratio": 0.2, "axes": ["channels"]}, Shape(30, 1216, 3)),
        ({"ratio": 0.2, "axes": ["channels"], "multipleOf": 128}, Shape(30, 1152, 3)),
        ({"ratio": 0.34, "axes": ["heads"]}, Shape(30, 1536, 2)),
        ({"ratio": 0.34, "axes": ["layers", "channels", "heads"]}, Shape(20, 992, 2)),
        ({"ratio": 0.999, "axes": ["channels"]}, Shape(30, 32, 3)),
    ],
)
def test_a_ratio_goes_of_each_axis(prune: dict[str, Any], expected: Shape) -> None:
    assert left(**prune) == expected


def test_channels_are_multiples_of_the_groups_of_four_bits() -> None:
    four_bits = {"scheme": "W4A16", "groupSize": 128}

    assert left(ratio=0.2, axes=["channels"], quantize=four_bits).channels == 1152


@pytest.mark.parametrize("axes", [["layers"], ["channels"], ["layers", "channels"]])
@pytest.mark.parametrize("part", [0.95, 0.6, 0.3])
def test_a_bound_is_kept_by_the_first_cut_that_does(axes: list[str], part: float) -> None:
    bound = int(part * count(WHOLE))

    shape = left(maxParameters=bound, axes=axes)

    # A layer or a multiple of channels more would not do.
    step = count(WHOLE) // 30 + 32 * 30
    assert bound - step <= count(shape) <= bound


@pytest.mark.parametrize(
    ("prune", "told"),
    [
        ({"ratio": 0.01}, "compression.prune.ratio: 0.01 of 30 layers takes none; raise it to"),
        ({"ratio": 0.99}, "compression.prune.ratio: 0.99 of 30 layers leaves none; lower it to"),
        ({"ratio": 0.1, "axes": ["heads"]}, "0.1 of 3 heads takes none"),
        ({"maxParameters": 10**9}, "no more than 1,000,000,000 as it is"),
        ({"maxParameters": 5}, "cannot be reached by layers, which leave 1,836 at least"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_what_would_do(prune: dict[str, Any], told: str) -> None:
    with pytest.raises(UnfitCutError, match=told.replace(".", r"\.")):
        left(**prune)


def test_feed_forward_networks_without_a_smaller_multiple_are_refused() -> None:
    compression = Compression.model_validate({"prune": {"axes": ["channels"]}}).with_defaults()

    with pytest.raises(UnfitCutError, match="of 32 channels no smaller multiple of 32"):
        pruned_shape(compression, Shape(2, 32, 1), num_parameters=count)


def spec_of(**prune: Any) -> Any:
    return FineTuneJob.model_validate(a_job(compression={"prune": prune})).spec.with_defaults()


def test_facts_of_what_is_left_are_about_those_of_smollm2_with_24_layers() -> None:
    facts = pruned_facts(spec_of(), SMOL)

    assert (facts.num_layers, facts.intermediate_size) == (24, 1536)
    # A layer of it has 3,540,096 parameters.
    assert facts.num_parameters == pytest.approx(134_515_008 - 6 * 3_540_096, rel=1e-3)


def test_a_model_that_cannot_be_cut_is_estimated_whole() -> None:
    assert pruned_facts(spec_of(ratio=0.01), SMOL) == SMOL


def test_memory_counts_the_teacher_unless_it_has_drawn_before() -> None:
    beside, drawn, alone = (
        estimate(spec_of(recovery=recovery), SMOL).memory_bytes["distill"]
        for recovery in ({}, {"logits": "sampled"}, {"objective": "crossEntropy"})
    )

    assert beside - drawn == 4 * SMOL.num_parameters
    assert drawn == alone


def drafted(**draft: Any) -> Any:
    serving = {"speculative": {"method": "draftModel", "draft": draft}}
    return FineTuneJob.model_validate(a_job(serving=serving)).spec.with_defaults()


def test_a_draft_takes_memory_in_its_stage_and_beside_its_model_and_disk() -> None:
    plain = estimate(FineTuneJob.model_validate(a_job()).spec.with_defaults(), SMOL)
    pair, smaller = estimate(drafted(), SMOL), estimate(drafted(ratio=0.9), SMOL)

    # 6 of 30 layers, and embeddings.
    parameters = 134_515_008 - 24 * 3_540_096
    more = pair.memory_bytes["verify"] - plain.memory_bytes["verify"]
    assert more == pytest.approx(2 * parameters, rel=1e-3)
    assert "draft" not in plain.memory_bytes
    # The teacher beside it, in fp32.
    assert pair.memory_bytes["draft"] > 4 * (SMOL.num_parameters + parameters)
    assert pair.memory_bytes["draft"] > smaller.memory_bytes["draft"]
    assert pair.disk_bytes > smaller.disk_bytes > plain.disk_bytes
    assert plain.draft_share is None
    assert pair.draft_share == pytest.approx(parameters / SMOL.num_parameters, rel=1e-3)


def test_of_a_pruned_model_a_draft_is_a_part_of_what_is_left() -> None:
    prune = drafted().model_copy(update={"compression": spec_of(ratio=0.5).compression})

    # 3 of 15 layers, and embeddings.
    embeddings = 134_515_008 - 30 * 3_540_096
    share = (embeddings + 3 * 3_540_096) / (embeddings + 15 * 3_540_096)
    assert estimate(prune, SMOL).draft_share == pytest.approx(share, rel=1e-3)


def test_n_grams_take_nothing_of_all_this() -> None:
    plain = FineTuneJob.model_validate(a_job()).spec.with_defaults()
    guessed = FineTuneJob.model_validate(a_job(serving={"speculative": {}})).spec.with_defaults()

    assert estimate(guessed, SMOL) == estimate(plain, SMOL)


def test_disk_counts_what_is_cut_and_recovered() -> None:
    plain = FineTuneJob.model_validate(a_job()).spec.with_defaults()

    assert estimate(spec_of(), SMOL).disk_bytes > estimate(plain, SMOL).disk_bytes


def test_the_run_of_the_recovery_has_its_own_steps_and_none_of_the_remedies() -> None:
    job = a_job(
        training={
            "method": "lora", "klToBase": {}, "freeze": {"layers": 2},
            "earlyStopping": {"patience": 2}, "batch": {"size": 8},
        },
        resources={"workers": 2},
        compression={"prune": {"recovery": {"maxSteps": 7, "learningRate": 0.01}}},
    )  # fmt: skip
    spec = recovering(FineTuneJob.model_validate(job).spec.with_defaults())

    training = spec.training
    assert (training.method, training.max_steps, training.epochs) == ("full", 7, None)
    assert training.optimizer.learning_rate == 0.01
    assert (training.kl_to_base, training.early_stopping) == (None, None)
    assert training.freeze.layers == 0
    assert training.batch.size == 8
    assert spec.resources.workers == 1
