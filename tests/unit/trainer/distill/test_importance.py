"""What does nothing is the least important, whichever way it is judged."""

from pathlib import Path
from typing import Any

import pytest
import torch

from small_models import small_model
from small_runs import random_rows
from tunesmith_trainer.distill.importance import losses_without, measure_importance
from tunesmith_trainer.distill.prunable import blocks_of

ROWS = random_rows(4)


def silent(_done: int, _total: int) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def model() -> Any:
    """Two layers, of which the second hands on what it is given."""
    made = small_model().eval()
    last = blocks_of(made)[1]
    last.self_attn.o_proj.weight.data.zero_()
    last.mlp.down_proj.weight.data.zero_()
    return made


def test_a_layer_that_turns_nothing_has_no_influence(model: Any) -> None:
    first, last = measure_importance(model, ROWS, on_row=silent).layers.tolist()

    assert last == pytest.approx(0.0, abs=1e-6)
    assert first > 1e-4


def test_influence_is_one_minus_the_mean_cosine_of_a_token(model: Any) -> None:
    rows = ROWS.subset([0, 1])
    apart = []
    for row in range(2):
        ids = torch.from_numpy(rows.row(row)[0].astype("int64"))[None]
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
        cosine = torch.nn.functional.cosine_similarity(states[0], states[1], dim=-1)
        apart.append(1 - cosine[0])

    found = measure_importance(model, rows, on_row=silent).layers[0].item()

    assert found == pytest.approx(torch.cat(apart).mean().item(), rel=1e-4)


def test_the_loss_does_not_change_without_a_layer_that_does_nothing(model: Any) -> None:
    without_first, without_last = losses_without(model, ROWS, on_layer=silent).tolist()
    whole = losses_without(model, ROWS, on_layer=silent).tolist()[1]

    assert without_last == whole
    assert abs(without_first - without_last) > 1e-6


def test_a_channel_or_head_that_nothing_reads_is_the_least(model: Any) -> None:
    first = blocks_of(model)[0]
    first.mlp.down_proj.weight.data[:, 5] = 0.0

    importance = measure_importance(model, ROWS, on_row=silent)

    assert int(importance.channels[0].argmin()) == 5
    assert importance.channels.shape == (2, 32)
    assert importance.kv_heads.shape == (2, 1)
    assert importance.kv_heads[1].item() == 0.0


def test_every_hook_is_gone_afterwards(model: Any, tmp_path: Path) -> None:
    del tmp_path
    measure_importance(model, ROWS, on_row=silent)

    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
