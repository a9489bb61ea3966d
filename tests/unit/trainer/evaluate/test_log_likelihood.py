"""Summed losses are those of the plain formula, however rows are batched."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from small_models import TINY_VOCABULARY
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate import log_likelihood
from tunesmith_trainer.evaluate.log_likelihood import score_rows, token_logprobs
from tunesmith_trainer.models import load_model


@pytest.fixture(scope="module")
def model(job: Path) -> PreTrainedModel:
    return load_model(job / "model", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def rows(job: Path) -> TokenRows:
    return TokenRows.load(job / "data" / "validation.safetensors")


def plain_loss(model: PreTrainedModel, rows: TokenRows, index: int) -> float:
    """One row, all logits, the textbook formula."""
    ids, trained = rows.row(index)
    tokens = torch.from_numpy(ids.astype(np.int64))
    with torch.no_grad():
        logprobs = model(input_ids=tokens[None]).logits[0].log_softmax(dim=-1)
    places = np.flatnonzero(trained)
    return -float(sum(logprobs[place - 1, tokens[place]] for place in places))


@pytest.mark.parametrize("batch_tokens", [1, 100, 4096])
def test_sums_are_those_of_each_row_alone(
    model: PreTrainedModel, rows: TokenRows, batch_tokens: int
) -> None:
    losses = score_rows(model, rows, pad_id=0, batch_tokens=batch_tokens)

    expected = [plain_loss(model, rows, index) for index in range(len(rows))]
    assert losses.sums == pytest.approx(expected, rel=1e-5)
    assert losses.sums.dtype == np.float64


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_chunks_of_logits_change_nothing(
    model: PreTrainedModel, rows: TokenRows, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [plain_loss(model, rows, index) for index in range(len(rows))]
    size = chunk * 4 * model.config.vocab_size
    monkeypatch.setattr(log_likelihood, "SCORING_LOGITS_BYTES", size)

    assert score_rows(model, rows, pad_id=0).sums == pytest.approx(expected, rel=1e-5)


def test_what_a_model_does_to_its_logits_still_happens(rows: TokenRows) -> None:
    """Gemma 2 presses them between two caps, after its head."""
    config = Gemma2Config(
        vocab_size=TINY_VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=0.1,
        attn_implementation="eager",
    )
    model = Gemma2ForCausalLM(config).eval()

    losses = score_rows(model, rows, pad_id=0)

    assert losses.sums == pytest.approx(
        [plain_loss(model, rows, index) for index in range(len(rows))], rel=1e-5
    )


def test_no_more_logits_are_held_than_a_chunk_has() -> None:
    """299 targets and a vocabulary of 262,144 have 300 MiB of logits; 64 are held at a time."""
    config = LlamaConfig(
        vocab_size=262_144,
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=4096,
    )
    model, sizes = LlamaForCausalLM(config).eval(), []
    model.lm_head.register_forward_hook(
        lambda _m, _i, logits: sizes.append(logits.numel() * logits.element_size())
    )
    row = TokenRows.of([(range(300), [False] + [True] * 299)])

    losses = score_rows(model, row, pad_id=0)

    assert max(sizes) <= 64 << 20
    assert len(sizes) > 1
    assert losses.sums == pytest.approx([plain_loss(model, row, 0)], rel=1e-4)


def test_weights_count_the_targets(model: PreTrainedModel, rows: TokenRows) -> None:
    losses = score_rows(model, rows, pad_id=0)

    assert losses.weights.tolist() == [rows.row(i)[1].sum() for i in range(len(rows))]


def test_a_row_without_targets_weighs_nothing(model: PreTrainedModel, rows: TokenRows) -> None:
    blank = TokenRows(rows.input_ids, np.zeros_like(rows.trained), rows.offsets)

    losses = score_rows(model, blank, pad_id=0)

    assert losses.sums.tolist() == losses.weights.tolist() == [0.0] * len(rows)


def test_progress_ends_at_all_rows(model: PreTrainedModel, rows: TokenRows) -> None:
    seen: list[tuple[int, int]] = []

    score_rows(model, rows, pad_id=0, batch_tokens=1, on_batch=lambda *at: seen.append(at))

    assert seen == [(done, len(rows)) for done in range(1, len(rows) + 1)]


def test_no_rows_are_refused(model: PreTrainedModel) -> None:
    nothing = TokenRows(
        np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.bool_), np.zeros(1, dtype=np.int64)
    )

    with pytest.raises(ValueError, match="no rows"):
        score_rows(model, nothing, pad_id=0)


def test_log_probabilities_of_tokens_sum_to_the_loss_of_the_row(
    model: PreTrainedModel, rows: TokenRows
) -> None:
    ids, trained = rows.row(0)

    logprobs = token_logprobs(model, ids.tolist(), num_last=int(trained.sum()))

    assert -sum(logprobs) == pytest.approx(plain_loss(model, rows, 0), rel=1e-5)
