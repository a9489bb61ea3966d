"""Rows that lie end to end in one line, on a card: none sees another."""

from pathlib import Path

import pytest
import torch

from tunesmith_trainer.models import load_model

LENGTHS = (33, 257, 129, 64)


@pytest.fixture(scope="module")
def model(bases: dict[str, Path], device: torch.device) -> torch.nn.Module:
    return load_model(bases["135M"], dtype=torch.float32).to(device)


def test_packed_rows_have_the_loss_and_the_gradient_of_single_ones(
    model: torch.nn.Module, device: torch.device
) -> None:
    """In fp32, by positions that restart, and no mask: the rule that packing rests on."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.randint(1, 49_000, (1, length), generator=generator).to(device) for length in LENGTHS
    ]
    positions = [torch.arange(length, device=device)[None] for length in LENGTHS]

    single = sum(_loss(model, row) for row in rows)
    packed = _loss(
        model, torch.cat(rows, dim=1), position_ids=torch.cat(positions, dim=1), starts=LENGTHS
    )
    gradients = []
    for loss in (single, packed):
        model.zero_grad()
        loss.backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))

    assert float(packed) == pytest.approx(float(single), rel=1e-5)
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 1e-4


def _loss(
    model: torch.nn.Module,
    ids: torch.Tensor,
    *,
    position_ids: torch.Tensor | None = None,
    starts: tuple[int, ...] = (),
) -> torch.Tensor:
    """Summed over all tokens but the first of each row."""
    logits = model(input_ids=ids, position_ids=position_ids, use_cache=False).logits[0, :-1]
    targets = ids[0, 1:].clone()
    for start in torch.tensor(starts[:-1]).cumsum(0).tolist():
        targets[start - 1] = -100
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
