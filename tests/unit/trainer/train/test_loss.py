"""Only target positions get logits, and nothing about the loss changes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from small_models import small_model
from small_runs import random_rows
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.dataloader import collate
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, target_logits

ROWS = [0, 1, 2, 3, 4]
CPU = torch.device("cpu")


def test_the_loss_of_target_positions_equals_the_plain_loss() -> None:
    model, tokens = small_model(), random_rows(5)

    selected = CrossEntropy(tokens, device=CPU).summed_loss(model, ROWS)

    assert selected.item() == pytest.approx(_plain_loss(model, tokens).item(), rel=1e-5)


def test_so_do_its_gradients() -> None:
    one, other, tokens = small_model(), small_model(), random_rows(5)

    CrossEntropy(tokens, device=CPU).summed_loss(one, ROWS).backward()
    _plain_loss(other, tokens).backward()

    for got, expected in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-4, atol=1e-5)


def test_the_head_computes_no_logits_for_other_positions() -> None:
    model, tokens = small_model(), random_rows(5)
    counts = []
    model.lm_head.register_forward_hook(
        lambda _m, _i, logits: counts.append(logits.numel() // model.config.vocab_size)
    )

    CrossEntropy(tokens, device=CPU).summed_loss(model, ROWS)

    # And for one position, which the model's own forward pass cannot do without.
    assert sum(counts) == tokens.num_targets + 1


def test_what_the_padding_holds_makes_no_difference() -> None:
    model, tokens = small_model(), random_rows(5)

    one, other = (
        target_logits(model, collate(tokens, ROWS, pad_id=pad_id, device=CPU)) for pad_id in (0, 50)
    )

    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_micro_batch_is_as_long_as_its_longest_row_up_to_the_last_target() -> None:
    tokens = TokenRows(
        input_ids=np.arange(1, 10, dtype=np.int32),
        trained=np.array([0, 1, 1, 0, 0, 0, 0, 1, 0], dtype=np.bool_),
        offsets=np.array([0, 5, 9], dtype=np.int64),
    )

    batch = collate(tokens, [0, 1], pad_id=0, device=CPU)

    assert batch.input_ids.tolist() == [[1, 2], [6, 7]]
    assert batch.positions.tolist() == [0, 1, 3]
    assert batch.targets.tolist() == [2, 3, 8]


def _plain_loss(model: torch.nn.Module, tokens: TokenRows) -> torch.Tensor:
    """Row by row, with logits for every position."""
    return torch.stack(list(_row_losses(model, tokens))).sum()


def _row_losses(model: torch.nn.Module, tokens: TokenRows) -> Iterator[torch.Tensor]:
    for row in ROWS:
        ids, trained = tokens.row(row)
        labels = torch.from_numpy(np.where(trained, ids, -100).astype(np.int64))
        logits = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
        yield F.cross_entropy(logits[:-1], labels[1:], reduction="sum")
