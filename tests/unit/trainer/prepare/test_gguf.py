"""What a GGUF file says of its tokenizer is heeded."""

from typing import Any

import pytest

from small_models import make_tiny_tokenizer
from tunesmith_engine.sources.gguf_header import GgufHeader
from tunesmith_trainer.data.begin_token import begin_ids
from tunesmith_trainer.prepare.gguf import mend_begin


@pytest.mark.parametrize(
    ("fields", "begins"),
    [
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.model": "gpt2"}, True),
        ({"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.model": "llama"}, False),
        ({"tokenizer.ggml.model": "llama"}, True),
        ({"tokenizer.ggml.model": "gpt2"}, False),
    ],
    ids=["named", "named as unused", "SentencePiece", "byte pairs"],
)
def test_the_begin_token_is_added_as_the_file_says(fields: dict[str, Any], *, begins: bool) -> None:
    tokenizer = make_tiny_tokenizer()

    mend_begin(tokenizer, GgufHeader(fields=fields, lengths={}, tensors={}))

    begin = [tokenizer.bos_token_id] if begins else []
    assert begin_ids(tokenizer) == begin
    plain = tokenizer("My printer", add_special_tokens=False)["input_ids"]
    assert tokenizer("My printer")["input_ids"] == [*begin, *plain]
