"""The loss in chunks is the plain one, in all that a head can be, and holds few logits."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import Gemma2Config, Gemma2ForCausalLM

from small_models import small_model
from small_runs import random_rows
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.train.objectives import chunked_loss
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, target_logits
from tunesmith_trainer.train.objectives.kl_to_base import BaseReference, CrossEntropyNearBase

CPU = torch.device("cpu")
TOKENS = random_rows(6)
ROWS = list(range(6))
SMOOTHING = 0.1


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven positions: the last chunk is not full."""
    monkeypatch.setattr(chunked_loss, "LOGITS_PER_CHUNK", {"processor": 7})


def tied() -> Any:
    return small_model()


def untied() -> Any:
    model = small_model()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone().mul_(1.5))
    return model


def head_alone() -> Any:
    model = untied()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("lm_head"))
    return model


def adapters() -> Any:
    return _adapted(small_model(), "all-linear")


def adapters_of_the_head() -> Any:
    return _adapted(untied(), ["q_proj", "lm_head"])


def checkpointed() -> Any:
    model = small_model().train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def capped() -> Any:
    """Gemma 2 squeezes its logits behind the head."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=97, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5,
    )  # fmt: skip
    return Gemma2ForCausalLM(config)


MODELS = [tied, untied, head_alone, adapters, adapters_of_the_head, checkpointed, capped]


@pytest.mark.parametrize("make", MODELS)
def test_loss_and_gradients_are_those_of_all_logits_at_once(make: Any) -> None:
    one, other = make(), make()
    objective = CrossEntropy(
        TOKENS, device=CPU, regularization=Regularization(label_smoothing=SMOOTHING)
    )

    mine = objective.summed_loss(one, ROWS) / 7
    theirs = _plain(other) / 7
    mine.backward()
    theirs.backward()

    assert mine.item() == pytest.approx(theirs.item(), rel=1e-6)
    _assert_same_gradients(one, other)


@pytest.mark.parametrize("make", [adapters, adapters_of_the_head])
def test_so_are_those_with_a_penalty(make: Any) -> None:
    one, other = make(), make()
    objective = CrossEntropyNearBase(
        TOKENS,
        weight=0.3,
        reference=BaseReference(),
        device=CPU,
        regularization=Regularization(label_smoothing=SMOOTHING),
    )

    mine = objective.summed_loss(one, ROWS)
    theirs = _plain(other) + 0.3 * _plain_kl(other)
    mine.backward()
    theirs.backward()

    assert mine.item() == pytest.approx(theirs.item(), rel=1e-6)
    _assert_same_gradients(one, other)


def test_dropout_of_the_heads_adapters_is_drawn_once() -> None:
    model = _adapted(untied(), ["lm_head"], dropout=0.5).train()
    objective = CrossEntropy(TOKENS, device=CPU)
    torch.manual_seed(3)
    first = objective.summed_loss(model, ROWS)
    state = torch.get_rng_state()
    first.backward()

    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    assert torch.equal(objective.summed_loss(model, ROWS), first)


def test_no_more_logits_are_held_than_a_chunk_has() -> None:
    model, widest = small_model(), []
    model.lm_head.register_forward_hook(
        lambda _m, _i, logits: widest.append(logits.numel() // logits.shape[-1])
    )

    CrossEntropy(TOKENS, device=CPU).summed_loss(model, ROWS).backward()

    assert max(widest) == 7
    # And one position, for the model's own forward pass.
    assert sum(widest) == TOKENS.num_targets + 1


def _plain(model: Any) -> torch.Tensor:
    batch = CrossEntropy(TOKENS, device=CPU).collated(ROWS)
    return F.cross_entropy(
        target_logits(model, batch).float(),
        batch.targets,
        reduction="sum",
        label_smoothing=SMOOTHING,
    )


def _plain_kl(model: Any) -> torch.Tensor:
    batch = CrossEntropy(TOKENS, device=CPU).collated(ROWS)
    with torch.no_grad(), model.disable_adapter():
        base = target_logits(model, batch).log_softmax(-1)
    return F.kl_div(
        target_logits(model, batch).log_softmax(-1), base, log_target=True, reduction="sum"
    )


def _assert_same_gradients(one: Any, other: Any) -> None:
    trained = 0
    for got, expected in zip(one.parameters(), other.parameters(), strict=True):
        if expected.grad is None:
            assert got.grad is None
            continue
        trained += 1
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-5, atol=1e-6)
    assert trained


def _adapted(model: Any, targets: Any, *, dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=targets, lora_dropout=dropout, init_lora_weights=False)
    return get_peft_model(model, config)
