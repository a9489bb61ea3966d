"""Activations that are computed again: the same gradients, bit by bit, and as many bytes less."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from manifests import a_job
from small_runs import a_loop, a_train_config, losses
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.training import Training
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.memory import Workload
from tunesmith_engine.stages.training_memory import tokens_per_pass, worker_memory
from tunesmith_trainer.train.adapters import make_trainable
from tunesmith_trainer.train.gradient_checkpointing import checkpoint_layers

ROWS, LENGTH, VOCABULARY = 2, 48, 97
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 64,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
JOBS: dict[str, dict[str, Any]] = {
    "adapters": {"method": "lora"},
    "adapters with dropout": {"method": "lora", "lora": {"dropout": 0.2}},
    "frozen layers below": {"method": "lora", "freeze": {"layers": 1}},
    "whole": {"method": "full"},
    "whole over frozen embeddings": {"method": "full", "freeze": {"embeddings": True}},
}


def a_model(training: Training, *, num_layers: int = 2, attention_dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, num_hidden_layers=num_layers, attention_dropout=attention_dropout)
    model = make_trainable(LlamaForCausalLM(config), training=training, precision="fp32").train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # which are zeros at first, and let no gradient reach A
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def a_training(**fields: Any) -> Training:
    return FineTuneJob.model_validate(a_job(training=fields)).spec.training.with_defaults()


def gradients(model: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    model(input_ids=ids, use_cache=False).logits.logsumexp(dim=-1).sum().backward()
    return {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("setting", ["all", "every2"])
@pytest.mark.parametrize("attention_dropout", [0.0, 0.2])
@pytest.mark.parametrize("job", JOBS)
def test_gradients_are_the_same_to_the_last_bit(
    job: str, setting: str, *, attention_dropout: float
) -> None:
    training = a_training(**JOBS[job])
    plain, again = (a_model(training, attention_dropout=attention_dropout) for _ in range(2))
    checkpoint_layers(again, setting)
    expected, got = gradients(plain), gradients(again)

    assert again.is_gradient_checkpointing
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_a_run_has_the_same_curve_and_goes_on_from_the_checkpoints_of_the_other(
    tmp_path: Path,
) -> None:
    fields: dict[str, Any] = {**JOBS["adapters with dropout"], "maxSteps": 4}
    plain = a_train_config(training=fields)
    again = a_train_config(training={**fields, "gradientCheckpointing": "all"})
    models = [a_model(config.training) for config in (plain, again)]
    checkpoint_layers(models[1], again.gradient_checkpointing)
    curves = [
        losses(a_loop(model, config=config, folder=tmp_path / name).run())
        for name, model, config in zip("ab", models, (plain, again), strict=True)
    ]

    assert curves[0] == curves[1]
    assert plain.digest() == again.digest()


def test_a_model_that_cannot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = a_model(a_training(method="full"))
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)

    with pytest.raises(BadInputError, match="gradientCheckpointing: a model of type") as caught:
        checkpoint_layers(model, "all")

    assert caught.value.reason is Reason.INVALID_SPEC


@pytest.mark.parametrize("setting", ["none", "every2", "all"])
@pytest.mark.parametrize("job", ["adapters", "frozen layers below", "whole"])
def test_as_many_bytes_are_kept_as_are_estimated(job: str, setting: str) -> None:
    """Of six layers less three: what embeddings and head keep is in both."""
    kept, estimated = [], []
    for num_layers in (6, 3):
        training = a_training(**JOBS[job], precision="fp32", gradientCheckpointing=setting)
        model = a_model(training, num_layers=num_layers)
        checkpoint_layers(model, setting)
        kept.append(kept_bytes(model))
        estimated.append(activations(training, model, num_layers=num_layers))

    assert kept[0] - kept[1] == pytest.approx(estimated[0] - estimated[1], rel=0.02)


def kept_bytes(model: Any) -> int:
    """What autograd keeps of a forward pass, parameters aside."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.zeros((ROWS, LENGTH), dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(input_ids=ids, use_cache=False).logits
    size = sum(
        tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in parameters
    )
    assert logits.requires_grad
    return size


def activations(training: Training, model: Any, *, num_layers: int) -> int:
    spec = FineTuneJob.model_validate(a_job()).spec.model_copy(update={"training": training})
    facts = ModelFacts(
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_layers=num_layers,
        hidden_size=SHAPE["hidden_size"],
        intermediate_size=SHAPE["intermediate_size"],
        num_heads=SHAPE["num_attention_heads"],
        num_kv_heads=SHAPE["num_key_value_heads"],
        vocab_size=VOCABULARY,
        context_length=LENGTH,
        is_tied=True,
        has_chat_template=True,
    )
    workload = Workload(spec, facts, LENGTH)
    return worker_memory(workload).activations * ROWS * LENGTH // tokens_per_pass(workload)
