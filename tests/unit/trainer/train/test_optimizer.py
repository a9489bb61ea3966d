"""What is decayed, and how the learning rate moves."""

import math

import pytest

from small_models import small_model
from small_runs import a_train_config
from tunesmith_trainer.train.optimizer import (
    build_optimizer,
    decay_groups,
    learning_rate,
    trainable_parameters,
)


def test_the_optimizer_has_the_settings_of_the_spec() -> None:
    given = {"learningRate": 0.5, "weightDecay": 0.25, "beta1": 0.8, "beta2": 0.9}
    config = a_train_config(training={"optimizer": given})

    optimizer = build_optimizer(
        trainable_parameters(small_model()), optimizer=config.training.optimizer
    )

    assert optimizer.defaults["lr"] == 0.5
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]


@pytest.mark.parametrize(
    ("schedule", "middle"), [("cosine", 0.55), ("linear", 0.55), ("constant", 1.0)]
)
def test_the_rate_warms_up_to_its_peak_and_decays_to_its_floor(
    schedule: str, middle: float
) -> None:
    config = a_train_config(
        training={
            "maxSteps": 20,
            "optimizer": {"learningRate": 1e-3},
            "schedule": {"type": schedule, "warmupRatio": 0.2, "minLearningRateRatio": 0.1},
        }
    )
    rates = {step: learning_rate(config, step=step) / 1e-3 for step in range(1, 21)}

    assert [rates[step] for step in (1, 2, 4)] == pytest.approx([0.25, 0.5, 1.0])
    assert rates[12] == pytest.approx(middle)
    assert rates[20] == pytest.approx(1.0 if schedule == "constant" else 0.1)


def test_a_quarter_of_the_cosine_is_above_the_line() -> None:
    warm = {"warmupRatio": 0.0, "minLearningRateRatio": 0.0}
    training = {"maxSteps": 8, "optimizer": {"learningRate": 1.0}}
    cosine = a_train_config(training={**training, "schedule": {**warm, "type": "cosine"}})
    linear = a_train_config(training={**training, "schedule": {**warm, "type": "linear"}})

    assert learning_rate(cosine, step=2) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(linear, step=2) == pytest.approx(0.75)


def test_a_run_may_warm_up_all_the_way() -> None:
    config = a_train_config(training={"maxSteps": 4, "schedule": {"warmupRatio": 1.0}})

    assert learning_rate(config, step=4) == config.training.optimizer.learning_rate


def test_norms_and_biases_are_not_decayed() -> None:
    model = small_model()
    parameters = trainable_parameters(model)

    decayed, kept = decay_groups(parameters)

    names = {id(weight): name for name, weight in parameters.items()}
    assert {names[id(weight)].split(".")[-2] for weight in kept} == {
        "input_layernorm",
        "post_attention_layernorm",
        "norm",
    }
    assert len(decayed) + len(kept) == len(parameters)
