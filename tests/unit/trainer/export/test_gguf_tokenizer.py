"""How a tokenizer splits text, by the name that llama.cpp has for it."""

import json
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.export.gguf_tokenizer import pre_tokenizer_of

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(**settings: Any) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **settings})


def digits(*, individual: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Digits(individual_digits=individual)


def split(expression: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(expression), behavior="isolated")


def told(pre_tokenizer: pre_tokenizers.PreTokenizer, model: Any = None) -> dict[str, Any]:
    tokenizer = Tokenizer(model or models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


@pytest.mark.parametrize(
    ("pre_tokenizer", "name"),
    [
        (byte_level(), "gpt-2"),
        (pre_tokenizers.Sequence([digits(individual=True), byte_level()]), "smollm"),
        (pre_tokenizers.Sequence([split(LLAMA_3), byte_level(use_regex=False)]), "llama-bpe"),
    ],
)
def test_known_ways_to_split_have_their_name(
    pre_tokenizer: pre_tokenizers.PreTokenizer, name: str
) -> None:
    assert pre_tokenizer_of(told(pre_tokenizer)) == name


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        byte_level(add_prefix_space=True),
        pre_tokenizers.Whitespace(),
        pre_tokenizers.Sequence([digits(individual=False), byte_level()]),
        pre_tokenizers.Sequence([split(r"\p{N}"), byte_level(use_regex=False)]),
    ],
)
def test_another_way_to_split_is_refused(pre_tokenizer: pre_tokenizers.PreTokenizer) -> None:
    with pytest.raises(BadInputError, match=r"spec\.export\.formats: gguf needs a tokenizer"):
        pre_tokenizer_of(told(pre_tokenizer))


@pytest.mark.parametrize("model", [models.Unigram(), models.BPE(byte_fallback=True)])
def test_a_sentence_piece_tokenizer_is_refused(model: Any) -> None:
    with pytest.raises(BadInputError, match="no byte-level BPE"):
        pre_tokenizer_of(told(byte_level(), model))
