"""What LiteRT-LM is told of a model beside its graph."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig

from small_models import CHATML, make_tiny_tokenizer
from tunesmith_trainer.evaluate.generation import stop_ids_of
from tunesmith_trainer.export.litert_writer import template_of

TALK = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}]
IN_PARTS = [
    {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in TALK
]


@pytest.mark.parametrize("messages", [TALK, IN_PARTS], ids=["texts", "parts"])
def test_a_message_in_parts_is_written_as_its_text(messages: list[dict[str, object]]) -> None:
    tokenizer = make_tiny_tokenizer()

    written = tokenizer.apply_chat_template(
        messages, chat_template=template_of(tokenizer), tokenize=False, add_generation_prompt=True
    )

    assert written == tokenizer.apply_chat_template(
        TALK, tokenize=False, add_generation_prompt=True
    )


def test_marks_of_what_is_trained_on_are_left_out() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = "{% generation %}a{%- endgeneration -%}b"

    assert template_of(tokenizer).endswith("ab")


def test_a_model_without_a_template_is_handed_the_text_alone() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = None

    written = tokenizer.apply_chat_template(
        IN_PARTS[:1], chat_template=template_of(tokenizer), tokenize=False
    )

    assert written == "Hello"


def test_a_text_begins_as_its_tokenizer_begins_it() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.bos_token = "<|endoftext|>"
    begin = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", begin)]
    )

    written = tokenizer.apply_chat_template(
        IN_PARTS[:1], chat_template=template_of(tokenizer), tokenize=False
    )

    assert written == "<|endoftext|>Hello"


def test_special_tokens_stand_in_the_template() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = CHATML

    assert f"eos_token = {json.dumps(tokenizer.eos_token)}" in template_of(tokenizer)


@pytest.mark.parametrize(("told", "expected"), [(7, [2, 7]), ([7, 9], [2, 7, 9]), (None, [2])])
def test_an_answer_ends_where_the_model_or_its_tokenizer_says(
    tmp_path: Path, told: Any, expected: list[int]
) -> None:
    GenerationConfig(eos_token_id=told).save_pretrained(tmp_path)
    tokenizer = make_tiny_tokenizer()
    assert tokenizer.eos_token_id == 2

    assert stop_ids_of(GenerationConfig.from_pretrained(tmp_path), tokenizer) == expected


def test_a_model_without_settings_ends_where_its_tokenizer_says() -> None:
    assert stop_ids_of(None, make_tiny_tokenizer()) == [2]
