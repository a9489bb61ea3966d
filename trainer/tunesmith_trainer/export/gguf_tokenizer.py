"""A byte-level BPE tokenizer in the metadata of a GGUF file, as llama.cpp reads it.

llama.cpp splits text before it merges bytes by one of its own rules, which a file names in
`tokenizer.ggml.pre`. A tokenizer that splits otherwise would be tokenized wrongly, silently: such a
one is refused.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

# By the expression that a tokenizer splits with, as its publishers write it in tokenizer.json.
_BY_EXPRESSION: Final = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
}


def write_tokenizer(
    writer: "GGUFWriter", tokenizer: "PreTrainedTokenizerBase", *, vocab_size: int
) -> None:
    """Add tokens, merges, special tokens and the chat template to the metadata.

    `vocab_size` are the rows of the embedding, of which the tokenizer may name fewer.

    Raises:
        BadInputError: llama.cpp has no tokenizer that splits like this one.
    """
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_of(told))
    tokens, types = _tokens(told, vocab_size=vocab_size)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(_merges(told))
    special = {
        writer.add_bos_token_id: tokenizer.bos_token_id,
        writer.add_eos_token_id: tokenizer.eos_token_id,
        writer.add_pad_token_id: tokenizer.pad_token_id,
        writer.add_unk_token_id: tokenizer.unk_token_id,
    }
    for add, token in special.items():
        if token is not None:
            add(token)
    # Whether texts begin with it. Settings say that in many ways, so the tokenizer is asked.
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and begins)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)


def refuse_unknown_tokenizer(folder: Path) -> None:
    """Return if the tokenizer of a model folder can be written into a GGUF file.

    Raises:
        BadInputError: it cannot.
    """
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    pre_tokenizer_of(told)


def pre_tokenizer_of(told: dict[str, Any]) -> str:
    """llama.cpp's name for how the tokenizer of a `tokenizer.json` splits text.

    Raises:
        BadInputError: it has none.
    """
    model = told.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise _unknown("it is no byte-level BPE")
    stages = told.get("pre_tokenizer") or {}
    parts = stages.get("pretokenizers", [stages])
    last = parts[-1]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise _unknown("it does not split bytes as GPT-2's does")
    splits = parts[:-1]
    if last.get("use_regex", True):
        if not splits:
            return "gpt-2"
        digits = [part for part in splits if part.get("type") == "Digits"]
        if digits == splits and all(part.get("individual_digits") for part in digits):
            return "smollm"
    elif len(splits) == 1 and splits[0].get("type") == "Split":
        expression = (splits[0].get("pattern") or {}).get("Regex", "")
        if expression in _BY_EXPRESSION and splits[0].get("behavior") == "Isolated":
            return _BY_EXPRESSION[expression]
    raise _unknown("llama.cpp has no rule that splits text as it does")


def _tokens(told: dict[str, Any], *, vocab_size: int) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    types = [int(TokenType.UNUSED)] * vocab_size
    for token, index in told["model"]["vocab"].items():
        tokens[index], types[index] = token, int(TokenType.NORMAL)
    for added in told.get("added_tokens", ()):
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    return tokens, types


def _merges(told: dict[str, Any]) -> list[str]:
    # Older files have them as text already. A byte-level token has no space of its own.
    merges = told["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def _unknown(why: str) -> BadInputError:
    return BadInputError(
        Reason.INVALID_SPEC,
        f"spec.export.formats: gguf needs a tokenizer that llama.cpp knows, and of this model's "
        f"{why}; leave gguf out, or choose onnx",
    )
