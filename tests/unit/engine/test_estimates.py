"""Estimates of memory and disk grow with what takes memory and disk."""

from dataclasses import replace
from typing import Any

import pytest

from manifests import DEFAULT_STAGES, a_job
from small_models import SMOL
from tunesmith_api.finetunejob.export import PRECISIONS
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.estimates import Estimate, estimate, speed_seconds
from tunesmith_engine.stages.catalog import EXPORT, PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageName
from tunesmith_engine.stages.memory import PROCESS_BYTES, SCORING_LOGITS_BYTES
from tunesmith_engine.stages.training_memory import trainable_parameters

GIB = 1 << 30
SHORT = {"sequenceLength": 256}


def estimate_of(**spec: Any) -> Estimate:
    return estimate(FineTuneJob.model_validate(a_job(**spec)).spec, SMOL)


def memory_of(stage: StageName = TRAIN.name, **spec: Any) -> int:
    return estimate_of(**spec).memory_bytes[stage]


def test_every_stage_has_an_estimate() -> None:
    made = estimate_of()

    assert set(made.memory_bytes) == set(DEFAULT_STAGES)
    assert made.peak_memory_bytes == max(made.memory_bytes.values())


@pytest.mark.parametrize(
    "dataset",
    [
        {"cleaning": {"unlikelyAnswers": {"policy": "warn"}}},
        {"augmentation": {"counterfactual": {"maxLossRise": 1.0}}},
    ],
)
def test_prepare_counts_the_base_model_that_it_asks_about_rows(dataset: dict[str, Any]) -> None:
    # Of a small model what is scored takes more than what is converted.
    small = replace(SMOL, num_parameters=20_000_000)
    asking, plain = (
        estimate(FineTuneJob.model_validate(a_job(dataset=given)).spec, small)
        for given in ({"train": {"uri": "file://a.jsonl"}} | each for each in (dataset, {}))
    )

    scoring = PROCESS_BYTES + 4 * 20_000_000 + 3 * SCORING_LOGITS_BYTES
    assert asking.memory_bytes[PREPARE.name] == scoring
    assert plain.memory_bytes[PREPARE.name] == PROCESS_BYTES + 6 * 20_000_000


@pytest.mark.parametrize(
    ("name", "precision"),
    [(name, precision) for name, precisions in PRECISIONS.items() for precision in precisions],
)
def test_every_format_takes_disk_and_memory(name: str, precision: str) -> None:
    wanted = {"export": {"formats": [{"format": name, "precision": precision}]}}

    assert estimate_of(**wanted).disk_bytes > estimate_of().disk_bytes
    # litert-torch was measured at 4.1 GiB while it wrote this shape, beside the model itself.
    lowest = 4.1 * GIB if name == "litert" else PROCESS_BYTES
    assert memory_of(EXPORT.name, **wanted) > lowest


def test_adapters_of_rank_16_on_smollm2_have_as_many_parameters_as_peft_counts() -> None:
    """PEFT prints 4,884,480 trainable parameters for all-linear at rank 16."""
    training = FineTuneJob.model_validate(a_job()).spec.training

    assert trainable_parameters(training, SMOL) == 4_884_480


@pytest.mark.parametrize(
    ("modules", "per_block"),
    [(["q_proj"], 2 * 576), (["q_proj", "v_proj"], 2 * 576 + 576 + 192)],
)
def test_fewer_target_modules_train_fewer_parameters(modules: list[str], per_block: int) -> None:
    spec = a_job(training={"lora": {"rank": 8, "targetModules": modules}})
    training = FineTuneJob.model_validate(spec).spec.training

    assert trainable_parameters(training, SMOL) == 30 * 8 * per_block


def test_a_target_module_of_another_name_counts_as_every_linear_layer() -> None:
    spec = a_job(training={"lora": {"targetModules": ["q_proj", "experts"]}})

    assert trainable_parameters(FineTuneJob.model_validate(spec).spec.training, SMOL) == 4_884_480


@pytest.mark.parametrize(
    ("training", "trained"),
    [
        # Of a block of SmolLM2: attention, gated inner layers, and two norms.
        ({"method": "full", "freeze": {"layers": 10}}, 134_515_008 - 10 * 3_540_096),
        ({"method": "full", "freeze": {"embeddings": True}}, 134_515_008 - 49_152 * 576),
        ({"freeze": {"layers": 10}}, 4_884_480 * 20 // 30),
    ],
)
def test_frozen_layers_take_no_state_of_the_optimizer(
    training: dict[str, Any], trained: int
) -> None:
    spec = FineTuneJob.model_validate(a_job(training=training)).spec

    assert trainable_parameters(spec.training, SMOL) == pytest.approx(trained, rel=1e-4)


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({"training": {"sequenceLength": 512}}, {"training": SHORT}),
        (
            {"training": {**SHORT, "batch": {"microBatchSize": 8}}},
            {"training": {**SHORT, "batch": {"microBatchSize": 4}}},
        ),
        ({"training": {**SHORT, "method": "full"}}, {"training": SHORT}),
        (
            {"training": {**SHORT, "lora": {"rank": 64}}},
            {"training": {**SHORT, "lora": {"rank": 4}}},
        ),
        ({"training": SHORT}, {"training": {**SHORT, "gradientCheckpointing": "all"}}),
        ({"training": SHORT, "resources": {"workers": 2}}, {"training": SHORT}),
    ],
)
def test_training_takes_more_memory_with_more_to_keep(
    more: dict[str, Any], less: dict[str, Any]
) -> None:
    assert memory_of(**more) > memory_of(**less)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_type_that_is_not_known_yet_counts_as_the_larger_one(method: str) -> None:
    auto, *known = (
        memory_of(training={**SHORT, "method": method, "precision": precision})
        for precision in ("auto", "bf16", "fp32")
    )

    assert auto == max(known)


def test_no_row_is_longer_than_the_context() -> None:
    assert memory_of(training={"sequenceLength": 100_000}) == memory_of(
        training={"sequenceLength": 8192}
    )


def test_once_rows_are_known_the_longest_of_them_counts_and_not_what_may_be() -> None:
    spec = FineTuneJob.model_validate(a_job(training={"sequenceLength": 1024})).spec
    seen = estimate(spec, SMOL, longest_row=256)

    assert seen.memory_bytes[TRAIN.name] == memory_of(training=SHORT)
    assert seen.disk_bytes == estimate(spec, SMOL).disk_bytes


def test_the_quickstart_fits_a_small_laptop() -> None:
    made = estimate_of(training=SHORT)

    assert made.peak_memory_bytes < 6 * GIB
    assert made.disk_bytes < 2 * GIB


def test_full_training_needs_room_for_its_checkpoints() -> None:
    few = estimate_of(training={"method": "full"}, checkpoint={"keep": 1}).disk_bytes
    many = estimate_of(training={"method": "full"}, checkpoint={"keep": 3}).disk_bytes

    assert many - few == 2 * 12 * SMOL.num_parameters


def test_a_four_bit_model_is_smaller_than_an_unquantized_one() -> None:
    four = estimate_of(compression={"quantize": {"scheme": "W4A16"}}).disk_bytes
    whole = estimate_of(compression={"quantize": {"scheme": "none"}}).disk_bytes

    assert four < whole


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, (45, 120)),
        ({"serving": {"speculative": {}}}, (90, 240)),
        (
            {
                "serving": {"speculative": {"method": "draftModel"}},
                "compression": {"quantize": {"scheme": "none"}},
            },
            (45, 120),
        ),
        ({"compression": {"quantize": {"scheme": "none"}}}, None),
        ({"serving": {"speculative": {}}, "verification": {"measureSpeed": False}}, None),
    ],
)
def test_vllm_is_loaded_once_more_for_each_comparison(
    fields: dict[str, Any], seconds: tuple[int, int] | None
) -> None:
    spec = FineTuneJob.model_validate(a_job(**fields)).spec.with_defaults()

    assert speed_seconds(spec) == seconds
