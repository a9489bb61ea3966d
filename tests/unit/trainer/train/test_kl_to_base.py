"""The divergence from the base: its value, its gradient, and that measuring it changes nothing."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F

from small_models import small_model
from small_runs import random_rows
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, target_logits
from tunesmith_trainer.train.objectives.kl_to_base import (
    BaseReference,
    CrossEntropyNearBase,
    KlToBase,
)

CPU = torch.device("cpu")
TOKENS = random_rows(6)
ROWS = list(range(6))


def adapted() -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.5, init_lora_weights=False)
    return get_peft_model(small_model(), config)


def plain_kl(model: Any) -> torch.Tensor:
    batch = CrossEntropy(TOKENS, device=CPU).collated(ROWS)
    with torch.no_grad(), model.disable_adapter():
        base = target_logits(model, batch).log_softmax(-1)
    tuned = target_logits(model, batch).log_softmax(-1)
    return F.kl_div(tuned, base, log_target=True, reduction="sum")


def objective(weight: float, reference: BaseReference) -> CrossEntropyNearBase:
    return CrossEntropyNearBase(
        TOKENS, weight=weight, reference=reference, device=CPU, regularization=Regularization()
    )


def test_it_is_the_divergence_over_the_vocabulary_of_every_target() -> None:
    model = adapted().eval()

    sums = KlToBase(TOKENS, reference=BaseReference(), device=CPU).row_losses(model, ROWS)

    assert len(sums) == len(ROWS)
    assert float(sums.sum()) == pytest.approx(plain_kl(model).detach().item(), rel=1e-4)


def test_without_a_step_it_is_nothing() -> None:
    model = get_peft_model(small_model(), LoraConfig(r=4, target_modules="all-linear")).eval()

    sums = KlToBase(TOKENS, reference=BaseReference(), device=CPU).row_losses(model, ROWS)

    assert sums.abs().max() < 1e-6


def test_the_penalty_adds_its_own_gradient() -> None:
    one, other = adapted().eval(), adapted().eval()
    kl = objective(0.3, BaseReference())

    kl.summed_loss(one, ROWS).backward()
    (CrossEntropy(TOKENS, device=CPU).summed_loss(other, ROWS) + 0.3 * plain_kl(other)).backward()

    for got, expected in zip(one.parameters(), other.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(got.grad, expected.grad, rtol=1e-3, atol=1e-5)


def test_a_frozen_copy_says_what_switched_off_adapters_say() -> None:
    model = adapted().eval()
    switched, copied = (
        KlToBase(TOKENS, reference=reference, device=CPU).row_losses(model, ROWS)
        for reference in (BaseReference(), BaseReference(small_model().eval()))
    )

    torch.testing.assert_close(switched, copied, rtol=1e-4, atol=1e-6)


def test_the_reference_draws_no_dropout_and_leaves_the_model_in_training() -> None:
    model = adapted().train()
    batch = CrossEntropy(TOKENS, device=CPU).collated(ROWS)
    state = torch.get_rng_state()

    reference = BaseReference()
    first, second = (
        reference.logprobs(model, reference.states(model, batch), slice(0, 20)) for _ in range(2)
    )

    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not first.requires_grad
