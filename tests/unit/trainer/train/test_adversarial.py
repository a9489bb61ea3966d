"""Adversarial training: its gradients, the ball of a token, and a measure without a trace."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F

from small_models import small_model
from small_runs import random_rows
from tunesmith_api.finetunejob.adversarial import Adversarial
from tunesmith_trainer.train.objectives.adversarial import (
    FreeLb,
    UnderAttack,
    VirtualAdversarial,
)
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, target_logits
from tunesmith_trainer.train.perturbation import Perturbation

CPU = torch.device("cpu")
TOKENS = random_rows(6)
ROWS = list(range(6))
PLAIN = CrossEntropy(TOKENS, device=CPU)


def adapted() -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(small_model(), config).train()


def gradients(model: Any) -> list[torch.Tensor]:
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


def test_freelb_is_the_mean_over_the_steps_of_its_ascent() -> None:
    model, other = adapted(), adapted()
    settings = Adversarial(epsilon=0.3, steps=3)
    torch.manual_seed(1)
    loss = FreeLb(PLAIN, settings=settings).summed_loss(model, ROWS)
    loss.backward()

    torch.manual_seed(1)
    perturbation = Perturbation(other, epsilon=0.3, steps=3, is_random=True)
    losses = []
    for _ in range(3):
        with perturbation.applied():
            each = PLAIN.summed_loss(other, ROWS) / 3
        # Into the parameters and into what is added.
        each.backward()
        assert perturbation.added.grad is not None
        perturbation.climb(perturbation.added.grad)
        losses.append(each.detach())

    assert losses[0] < losses[1] < losses[2]
    torch.testing.assert_close(loss.detach(), torch.stack(losses).sum())
    for got, expected in zip(gradients(model), gradients(other), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


def test_the_gradient_follows_the_scale_of_the_loss() -> None:
    one, other = adapted(), adapted()
    for model, scale in ((one, 1.0), (other, 0.25)):
        torch.manual_seed(1)
        (scale * FreeLb(PLAIN, settings=Adversarial()).summed_loss(model, ROWS)).backward()

    for got, expected in zip(gradients(other), gradients(one), strict=True):
        torch.testing.assert_close(got, 0.25 * expected)


@pytest.mark.parametrize("objective", [FreeLb, VirtualAdversarial])
def test_a_ball_of_nothing_is_plain_training(
    objective: type[FreeLb | VirtualAdversarial],
) -> None:
    model, other = adapted(), adapted()

    loss = objective(PLAIN, settings=Adversarial(epsilon=1e-7)).summed_loss(model, ROWS)
    loss.backward()
    plain = PLAIN.summed_loss(other, ROWS)
    plain.backward()

    torch.testing.assert_close(loss.detach(), plain.detach(), rtol=1e-4, atol=1e-4)
    for got, expected in zip(gradients(model), gradients(other), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_vat_adds_its_weight_times_the_divergence() -> None:
    model = adapted()
    sums = []
    for weight in (1.0, 3.0):
        torch.manual_seed(1)
        settings = Adversarial(type="vat", epsilon=0.5, weight=weight)
        sums.append(VirtualAdversarial(PLAIN, settings=settings).summed_loss(model, ROWS))

    plain = PLAIN.summed_loss(model, ROWS).detach()
    divergence = sums[0].detach() - plain
    assert divergence > 0
    torch.testing.assert_close(sums[1].detach() - plain, 3 * divergence, rtol=1e-4, atol=1e-4)


def test_no_token_leaves_its_ball_and_padding_stays() -> None:
    model = adapted()
    batch = PLAIN.collated(ROWS)
    perturbation = Perturbation(model, epsilon=0.2, steps=2, is_random=False)
    for _ in range(5):
        with perturbation.applied():
            loss = PLAIN.summed_loss(model, ROWS)
        (gradient,) = torch.autograd.grad(loss, [perturbation.added])
        perturbation.climb(gradient)

    mean = model.get_input_embeddings().weight.norm(dim=-1).mean()
    lengths = perturbation.added.detach().norm(dim=-1)
    assert lengths.max() <= 0.2 * mean * (1 + 1e-5)
    assert lengths.max() > 0.19 * mean
    columns = torch.arange(batch.input_ids.shape[1])
    assert (lengths[columns >= batch.row_lengths[:, :1]] == 0).all()


def test_an_attack_finds_a_higher_loss_than_chance() -> None:
    model = adapted().eval()
    with torch.no_grad():
        plain = PLAIN.row_losses(model, ROWS)
    attacked = UnderAttack(TOKENS, device=CPU, epsilon=0.3).row_losses(model, ROWS)
    chance = Perturbation(model, epsilon=0.3, steps=1, is_random=True)
    with chance.applied():
        by_chance = PLAIN.row_losses(model, ROWS)

    assert (attacked > plain).all()
    assert attacked.sum() > by_chance.sum()


def test_an_attack_leaves_no_trace() -> None:
    model = adapted().eval()
    measure = UnderAttack(TOKENS, device=CPU, epsilon=0.3)
    state = torch.get_rng_state()
    with torch.no_grad():
        together = measure.row_losses(model, ROWS)
        alone = torch.cat([measure.row_losses(model, [row]) for row in ROWS])

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert not together.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert not gradients(model)
    batch = PLAIN.collated(ROWS)
    logits = target_logits(model, batch)
    plain = F.cross_entropy(logits, batch.targets, reduction="sum")
    torch.testing.assert_close(PLAIN.row_losses(model, ROWS).sum().float(), plain.detach())
