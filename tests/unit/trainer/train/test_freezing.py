"""What is frozen keeps its very bits, and what cannot be frozen is told with what can."""

from pathlib import Path
from typing import Any

import pytest
import torch

from small_models import small_model
from small_runs import a_loop, a_train_config
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.adapters import make_trainable, refuse_unfit
from tunesmith_trainer.train.parameter_groups import trainable_parameters


def trainable(**training: Any) -> set[str]:
    """The names of what is trained so."""
    config = a_train_config(training=training)
    model = make_trainable(small_model(), training=config.training, precision="fp32")
    return set(trainable_parameters(model))


def refusal(**training: Any) -> str:
    """Why this is refused, asked without weights as prepare asks, and again when it is built."""
    given = a_train_config(training=training).training
    with torch.device("meta"):
        empty = small_model()
    with pytest.raises(BadInputError) as early:
        refuse_unfit(given, model=empty)
    with pytest.raises(BadInputError) as late:
        make_trainable(small_model(), training=given, precision="fp32")
    assert str(early.value) == str(late.value)
    return str(late.value)


def test_frozen_parts_keep_their_bits_and_others_learn(tmp_path: Path) -> None:
    config = a_train_config(
        training={
            "method": "full",
            "maxSteps": 2,
            "optimizer": {"learningRate": 1e-2},
            "freeze": {"layers": 1, "embeddings": True, "modules": ["model.layers.1.mlp.*_proj"]},
        }
    )
    model = make_trainable(small_model(), training=config.training, precision="fp32")

    a_loop(model, config=config, folder=tmp_path).run()

    before = small_model().state_dict()
    changed = {
        name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])
    }
    assert {name.split(".")[3] for name in changed if ".layers." in name} == {
        "self_attn",
        "input_layernorm",
        "post_attention_layernorm",
    }
    assert not [name for name in changed if ".layers.0." in name]
    # The head is the embedding: it is frozen with it.
    assert {name for name in changed if ".layers." not in name} == {"model.norm.weight"}


def test_frozen_layers_get_no_adapters() -> None:
    assert {name.split(".layers.")[1][0] for name in trainable(freeze={"layers": 1})} == {"1"}


@pytest.mark.parametrize("targets", [["all-linear"], ["q_proj", "up_proj"]])
def test_frozen_modules_get_no_adapters(targets: list[str]) -> None:
    names = trainable(lora={"targetModules": targets}, freeze={"modules": ["*.self_attn"]})

    assert names
    assert all(".mlp." in name for name in names)


def test_every_layer_of_a_full_fine_tuning_may_be_frozen() -> None:
    assert trainable(method="full", freeze={"layers": 2}) == {
        "model.embed_tokens.weight",
        "model.norm.weight",
    }


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("model.layer.*.mlp", "model.layers.*.mlp"),
        ("*.self_atn", "*.self_attn"),
        ("mlp", "*.mlp"),
        ("zzz", "*.self_attn"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_those_near(pattern: str, near: str) -> None:
    message = refusal(freeze={"modules": ["*.mlp", pattern]})

    assert message.startswith(f"training.freeze.modules: {pattern} matches no module")
    assert near in message


@pytest.mark.parametrize("method", ["full", "lora"])
def test_more_layers_than_the_model_has_are_refused(method: str) -> None:
    assert "3 layers, but the model has 2" in refusal(method=method, freeze={"layers": 3})


@pytest.mark.parametrize(
    ("method", "freeze"),
    [("full", {"modules": ["*"]}), ("lora", {"layers": 2}), ("lora", {"modules": ["model"]})],
)
def test_nothing_left_to_train_is_refused(method: str, freeze: dict[str, Any]) -> None:
    assert "nothing is left to train" in refusal(method=method, freeze=freeze)
