"""Every number of a run is decided from the spec and the data, and moves as the page says."""

import math

import pytest

from small_runs import a_recipe
from tunesmith_trainer.train.schedule import learning_rate


def test_the_defaults_are_three_epochs_and_a_tenth_of_the_steps() -> None:
    recipe = a_recipe(num_rows=530)

    assert recipe.num_steps == math.ceil(3 * 530 / 16) == 100
    assert (recipe.evaluate_every, recipe.checkpoint_every) == (10, 10)
    assert recipe.warmup_steps == 5
    assert recipe.learning_rate == 2e-4
    assert recipe.lora is not None
    assert recipe.lora.alpha == 2 * recipe.lora.rank


def test_full_fine_tuning_has_a_lower_default_rate_and_no_adapters() -> None:
    recipe = a_recipe(training={"method": "full"})

    assert recipe.lora is None
    assert recipe.learning_rate == 2e-5


def test_max_steps_wins_over_epochs_that_nobody_gave() -> None:
    assert a_recipe(training={"maxSteps": 7}).num_steps == 7


def test_a_part_of_an_epoch_is_rounded_up_to_whole_steps() -> None:
    assert a_recipe(num_rows=17, training={"epochs": 1}).num_steps == 2
    assert a_recipe(num_rows=17, training={"epochs": 0.01}).num_steps == 1


def test_automatic_precision_follows_the_processor() -> None:
    assert a_recipe().precision == "fp32"
    assert a_recipe(training={"precision": "bf16"}).precision == "bf16"


def test_how_often_checkpoints_are_written_is_outside_the_digest() -> None:
    rare, often = a_recipe(), a_recipe(checkpoint={"everySteps": 1, "keep": 9})

    assert rare.digest() == often.digest()
    assert rare.digest() != a_recipe(training={"seed": 1}).digest()
    assert rare.digest() != a_recipe(training={"lora": {"rank": 8}}).digest()


@pytest.mark.parametrize(
    ("schedule", "middle"), [("cosine", 0.55), ("linear", 0.55), ("constant", 1.0)]
)
def test_the_rate_warms_up_to_its_peak_and_decays_to_its_floor(
    schedule: str, middle: float
) -> None:
    recipe = a_recipe(
        training={
            "maxSteps": 20,
            "optimizer": {"learningRate": 1e-3},
            "schedule": {"type": schedule, "warmupRatio": 0.2, "minLearningRateRatio": 0.1},
        }
    )
    rates = {step: learning_rate(recipe, step=step) / 1e-3 for step in range(1, 21)}

    assert [rates[step] for step in (1, 2, 4)] == pytest.approx([0.25, 0.5, 1.0])
    assert rates[12] == pytest.approx(middle)
    assert rates[20] == pytest.approx(1.0 if schedule == "constant" else 0.1)


def test_a_quarter_of_the_cosine_is_above_the_line() -> None:
    warm = {"warmupRatio": 0.0, "minLearningRateRatio": 0.0}
    training = {"maxSteps": 8, "optimizer": {"learningRate": 1.0}}
    cosine = a_recipe(training={**training, "schedule": {**warm, "type": "cosine"}})
    linear = a_recipe(training={**training, "schedule": {**warm, "type": "linear"}})

    assert learning_rate(cosine, step=2) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(linear, step=2) == pytest.approx(0.75)


def test_a_run_may_warm_up_all_the_way() -> None:
    recipe = a_recipe(training={"maxSteps": 4, "schedule": {"warmupRatio": 1.0}})

    assert learning_rate(recipe, step=4) == recipe.learning_rate


def test_every_decided_value_is_told_as_text() -> None:
    resolved = a_recipe().as_text()

    assert resolved["loraTargetModules"] == "all-linear"
    assert resolved["learningRate"] == "0.0002"
    assert all(isinstance(value, str) for value in resolved.values())
