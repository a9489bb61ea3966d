"""Greedy answers do not depend on how prompts are batched, and stop where the model stops."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_trainer.evaluate.generation import generate_ids, generate_texts, stop_ids
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


def test_an_answer_ends_with_the_token_that_stops_it(model: PreTrainedModel) -> None:
    free = generate_ids(model, PROMPTS, stops=[], pad_id=0, max_new_tokens=6)
    stop = free[0][2]

    stopped = generate_ids(model, PROMPTS, stops=[stop], pad_id=0, max_new_tokens=6)

    first = free[0].index(stop)
    assert stopped[0] == free[0][: first + 1]


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
