"""Greedy answers do not depend on how prompts are batched, and stop where the model stops."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from tunesmith_trainer.evaluate.generation import (
    BLOCK_TOKENS,
    batches_by_length,
    generate_ids,
    generate_texts,
    stop_ids,
)
from tunesmith_trainer.models import load_model, load_tokenizer

PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16]]


@pytest.fixture(scope="module")
def model(job: Path) -> PreTrainedModel:
    return load_model(job / "model", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(job: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(job / "model")


def test_a_batch_answers_as_single_prompts_do(model: PreTrainedModel) -> None:
    together = generate_ids(model, PROMPTS, stops=[], pad_id=0, max_new_tokens=6)

    alone = [
        generate_ids(model, [each], stops=[], pad_id=0, max_new_tokens=6)[0] for each in PROMPTS
    ]
    assert together == alone
    assert [len(each) for each in together] == [6, 6, 6]


def test_what_all_prompts_begin_with_is_computed_once(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[5, 6, 7, *ids] for ids in PROMPTS]
    alone = [generate_ids(model, [ids], stops=[], pad_id=0, max_new_tokens=6)[0] for ids in prompts]
    computed = _computed_rows(model, monkeypatch)

    together = generate_ids(model, prompts, stops=[], pad_id=0, max_new_tokens=6)

    assert together == alone
    assert computed[:2] == [1, len(PROMPTS)]


def test_a_prompt_that_is_the_beginning_of_all_others_is_answered_too(
    model: PreTrainedModel,
) -> None:
    prompts = [[5, 6, 7], [5, 6, 7, 8, 9]]

    together = generate_ids(model, prompts, stops=[], pad_id=0, max_new_tokens=6)

    assert together == [
        generate_ids(model, [ids], stops=[], pad_id=0, max_new_tokens=6)[0] for ids in prompts
    ]


def test_a_window_over_columns_never_has_padding_inside(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DynamicLayer, "is_sliding", True)
    computed = _computed_rows(model, monkeypatch)

    generate_ids(model, [[5, *ids] for ids in PROMPTS], stops=[], pad_id=0, max_new_tokens=2)

    assert computed[0] == len(PROMPTS)


def test_an_answer_ends_with_the_token_that_stops_it(model: PreTrainedModel) -> None:
    free = generate_ids(model, PROMPTS, stops=[], pad_id=0, max_new_tokens=6)
    stop = free[0][2]

    stopped = generate_ids(model, PROMPTS, stops=[stop], pad_id=0, max_new_tokens=6)

    first = free[0].index(stop)
    assert stopped[0] == free[0][: first + 1]


def test_rows_that_have_ended_leave_their_batch_and_change_no_other(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 3 * BLOCK_TOKENS
    free = generate_ids(model, PROMPTS, stops=[], pad_id=0, max_new_tokens=length)
    computed = _computed_rows(model, monkeypatch)
    # Something that one row says early, and another one late or never.
    stop = next(token for token in free[0][:BLOCK_TOKENS] if token not in free[1][:BLOCK_TOKENS])

    stopped = generate_ids(model, PROMPTS, stops=[stop], pad_id=0, max_new_tokens=length)

    ends = [row.index(stop) + 1 if stop in row else length for row in free]
    assert stopped == [row[:end] for row, end in zip(free, ends, strict=True)]
    assert computed[0] == len(PROMPTS)
    assert computed[-1] < len(PROMPTS)


def test_a_cache_that_rows_cannot_be_dropped_from_is_left_whole(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 2 * BLOCK_TOKENS
    wanted = generate_ids(model, PROMPTS, stops=[7], pad_id=0, max_new_tokens=length)

    monkeypatch.delattr(DynamicLayer, "batch_select_indices")

    assert generate_ids(model, PROMPTS, stops=[7], pad_id=0, max_new_tokens=length) == wanted


def _computed_rows(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each forward pass from now on has."""
    numbers: list[int] = []
    forward = model.forward

    def counted(*args: Any, **options: Any) -> Any:
        numbers.append(options["input_ids"].shape[0])
        return forward(*args, **options)

    monkeypatch.setattr(model, "forward", counted)
    return numbers


def test_a_long_prompt_does_not_pad_the_short_ones() -> None:
    lengths = [40, 520, 42, 41, 39]

    assert batches_by_length(lengths, batch_rows=32) == [[4, 0, 3, 2], [1]]
    assert batches_by_length(lengths[:1] * 5, batch_rows=2) == [[0, 1], [2, 3], [4]]
    assert batches_by_length([], batch_rows=2) == []


def test_settings_that_would_bend_the_probabilities_are_left_out(model: PreTrainedModel) -> None:
    free = generate_ids(model, PROMPTS, stops=[], pad_id=0, max_new_tokens=6)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.do_sample = True

    assert generate_ids(model, PROMPTS, stops=[], pad_id=0, max_new_tokens=6) == free


def test_small_batches_keep_the_order_of_the_prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    texts = ["One two three four five", "Six", "Seven eight"]

    answers = generate_texts(model, tokenizer, texts, max_new_tokens=3, batch_rows=1)

    assert answers == generate_texts(model, tokenizer, texts, max_new_tokens=3, batch_rows=3)


def test_the_end_of_a_turn_is_among_the_stops(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in stop_ids(model, tokenizer)
