"""What a spec leaves open is decided from the data, and every decision is told by its path."""

import math
from typing import Any

import pytest

from manifests import a_job
from small_runs import a_train_config
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.training import Batch, Training
from tunesmith_engine.planning.defaults import describe, settled
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.config import refuse_large_batch


def _resolved(**spec: Any) -> dict[str, str]:
    return a_train_config(**spec).resolved()


def test_the_defaults_are_three_epochs_and_a_tenth_of_the_steps() -> None:
    config = a_train_config(num_rows=530)

    assert config.num_steps == math.ceil(3 * 530 / 16) == 100
    assert (config.evaluate_every, config.checkpoint_every) == (10, 10)
    assert config.warmup_steps == 5
    assert config.training.optimizer.learning_rate == 2e-4
    assert config.training.lora.alpha == 2 * config.training.lora.rank


def test_full_fine_tuning_has_a_lower_default_rate_and_no_adapters() -> None:
    config = a_train_config(training={"method": "full"})

    assert config.training.optimizer.learning_rate == 2e-5
    assert not [path for path in _resolved(training={"method": "full"}) if ".lora." in path]


def test_a_batch_larger_than_the_data_is_refused_with_both_counts() -> None:
    with pytest.raises(BadInputError, match="16 rows is larger than the 9 rows"):
        refuse_large_batch(9, batch=Batch(size=16))

    refuse_large_batch(16, batch=Batch(size=16))


def test_max_steps_wins_over_epochs_that_nobody_gave() -> None:
    assert a_train_config(training={"maxSteps": 7}).num_steps == 7


def test_a_part_of_an_epoch_is_rounded_up_to_whole_steps() -> None:
    assert a_train_config(num_rows=17, training={"epochs": 1}).num_steps == 2
    assert a_train_config(num_rows=17, training={"epochs": 0.01}).num_steps == 1


def test_automatic_precision_follows_the_processor() -> None:
    assert a_train_config().precision == "fp32"
    assert a_train_config(training={"precision": "bf16"}).precision == "bf16"


def test_how_often_checkpoints_are_written_is_outside_the_digest() -> None:
    rare = a_train_config()
    often = a_train_config(checkpoint={"everySteps": 1, "keep": 9, "asynchronous": True})

    assert rare.digest() == often.digest()
    assert rare.digest() != a_train_config(training={"seed": 1}).digest()
    assert rare.digest() != a_train_config(training={"lora": {"rank": 8}}).digest()


def test_checkpoints_are_written_beside_training_where_that_takes_no_memory_from_it() -> None:
    def is_asynchronous(**spec: Any) -> bool:
        return a_train_config(**spec).asynchronous_checkpoints

    assert not is_asynchronous()
    assert is_asynchronous(resources={"gpusPerWorker": 1})
    assert is_asynchronous(checkpoint={"asynchronous": True})
    assert not is_asynchronous(resources={"gpusPerWorker": 1}, checkpoint={"asynchronous": False})


EXPLAINED = {"train": {"uri": "s3://tickets/2026-11.jsonl"}, "highlights": "because"}
# Another value for every field of `spec.training`, and whether a run of 24 rows is another by it.
OTHER: dict[str, tuple[Any, bool]] = {
    "method": ("full", True),
    "objective": ("dpo", True),
    "dpo.beta": (0.5, True),
    "dpo.labelSmoothing": (0.1, True),
    "dpo.sftWeight": (1.0, True),
    "lora.rank": (8, True),
    "lora.alpha": (4.0, True),
    "lora.dropout": (0.5, True),
    "lora.targetModules": (["q_proj"], True),
    "lora.useRslora": (True, True),
    "lora.useDora": (True, True),
    "lora.loraplusLrRatio": (16.0, True),
    "lora.quantization": ("nf4", True),
    "optimizer.type": ("adamw_8bit", True),
    "optimizer.learningRate": (1e-3, True),
    "optimizer.weightDecay": (0.5, True),
    "optimizer.beta1": (0.5, True),
    "optimizer.beta2": (0.5, True),
    "optimizer.maxGradNorm": (0.5, True),
    "optimizer.layerDecay": (0.9, True),
    "schedule.type": ("linear", True),
    "schedule.warmupRatio": (0.9, True),
    "schedule.minLearningRateRatio": (0.5, True),
    "klToBase": ({"weight": 0.5}, True),
    "distillation": ({"teacher": {"model": {"uri": "hf://a/b"}}, "weight": 0.25}, True),
    "adversarial": ({"epsilon": 0.5}, True),
    "fairness": ({"method": "groupDro"}, True),
    "explanation": ({"method": "attribution"}, True),
    "forgettingBudget": ({"maxGeneralLossRise": 0.5}, False),
    "regularization.labelSmoothing": (0.1, True),
    "regularization.neftuneNoiseAlpha": (5.0, True),
    "regularization.attentionDropout": (0.1, True),
    "regularization.embeddingDropout": (0.1, True),
    "schedule.decayRatio": (0.5, True),
    "schedule.decayType": ("linear", True),
    "schedule.cycles": (2, True),
    "freeze.layers": (1, True),
    "freeze.embeddings": (True, True),
    "freeze.modules": (["*.mlp"], True),
    "batch.size": (8, True),
    "batch.microBatchSize": (2, True),
    "epochs": (9.0, True),
    "maxSteps": (50, True),
    "sequenceLength": (64, False),
    "precision": ("bf16", True),
    "packing": ("bfd", True),
    "parallelism": ("fsdp", True),
    "compile": (True, True),
    "gradientCheckpointing": ("all", False),
    "evaluateEverySteps": (2, True),
    "earlyStopping": ({"patience": 3}, True),
    "control": ({"steps": 2}, True),
    "seed": (5, True),
}


def test_the_table_above_has_every_field_of_the_training() -> None:
    """A field that is added to the spec is added here, with its answer."""
    fields = {
        setting.path.removeprefix("training.")
        for setting in describe(FineTuneJob.model_validate(a_job(training=_every_field())).spec)
        if setting.path.startswith("training.")
    }
    names = {str(field.alias) for field in Training.model_fields.values()}

    assert {path.partition(".")[0] for path in OTHER} == names
    assert fields | {"epochs"} == set(OTHER)


@pytest.mark.parametrize("path", sorted(OTHER))
def test_checkpoints_belong_to_every_field_that_changes_what_is_computed(path: str) -> None:
    value, is_another_run = OTHER[path]
    name, _, field = path.partition(".")

    training = {name: {field: value} if field else value}
    # A rule ties it to a column of the rows.
    spec: dict[str, Any] = {"dataset": EXPLAINED} if name == "explanation" else {}
    other = a_train_config(training=training, **spec)

    assert (other.digest() != a_train_config().digest()) is is_another_run


def test_more_cycles_than_steps_are_refused() -> None:
    with pytest.raises(BadInputError, match="7 cycles in 5 steps"):
        a_train_config(training={"schedule": {"cycles": 7}})


def test_the_same_numbers_by_another_way_are_the_same_run() -> None:
    """48 rows in batches of 16 are three steps, of which the warm-up takes one in either case."""
    by_epochs = a_train_config(training={"epochs": 2, "schedule": {"warmupRatio": 0.1}})
    by_steps = a_train_config(training={"maxSteps": 3, "schedule": {"warmupRatio": 0.2}})

    assert by_epochs.digest() == by_steps.digest()


def test_lora_fields_do_not_tie_a_full_fine_tuning() -> None:
    full = a_train_config(training={"method": "full"})

    assert (
        full.digest() == a_train_config(training={"method": "full", "lora": {"rank": 8}}).digest()
    )


def test_every_decided_value_is_told_as_text_by_the_path_of_its_field() -> None:
    resolved = _resolved()

    assert resolved["training.lora.targetModules"] == '["all-linear"]'
    assert resolved["training.lora.alpha"] == "32.0"
    assert resolved["training.optimizer.learningRate"] == "0.0002"
    assert resolved["training.precision"] == "fp32"
    assert resolved["training.maxSteps"] == "5"
    assert resolved["training.evaluateEverySteps"] == "1"
    assert resolved["checkpoint.everySteps"] == "1"
    assert resolved["resources.workers"] == "1"
    assert all(isinstance(value, str) for value in resolved.values())


def test_what_is_told_agrees_with_the_planner_and_names_fields_of_the_spec_alone() -> None:
    spec = FineTuneJob.model_validate(a_job(training=_every_field())).spec
    paths = {setting.path for setting in describe(spec)}
    resolved = _resolved()
    planned = settled(FineTuneJob.model_validate(a_job()).spec)

    assert set(resolved) <= paths | {"training.epochs"}
    assert {path: resolved[path] for path in planned if path.startswith("training.")} == {
        path: text for path, text in planned.items() if path.startswith("training.")
    }


def _every_field() -> dict[str, Any]:
    """A training that leaves nothing open; it has steps, and so no epochs."""
    return {"maxSteps": 50, "evaluateEverySteps": 2}


def test_measuring_takes_at_most_half_as_long_as_training_but_is_done_twice() -> None:
    every = [
        a_train_config(evaluation_cost=cost, training={"maxSteps": 100}).evaluate_every
        for cost in (0.5, 8.0, 400.0)
    ]

    assert every == [10, 16, 50]
    given = a_train_config(
        evaluation_cost=400.0, training={"maxSteps": 100, "evaluateEverySteps": 3}
    )
    assert given.evaluate_every == 3
