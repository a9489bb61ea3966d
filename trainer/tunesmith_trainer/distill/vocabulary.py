"""Fewer tokens: smaller embeddings and head, and a tokenizer that makes the same of the rows.

What is kept are the tokens of the job's rows, those that they are merged from, the special ones and
all single bytes. BPE undoes no merge, so every pair that was ever merged on the way to a token that
is kept is kept as well, in its order: text of tokens that are all kept becomes the same tokens as
before, and any other text more and shorter ones, down to bytes.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.data.prepared import Prepared, load_replay
from tunesmith_trainer.data.token_rows import TokenRows

_TOKENIZER: Final = "tokenizer.json"
_SETTINGS: Final = "tokenizer_config.json"
# Words and merges as other releases of the libraries read them, and with the ids of before.
_STALE: Final = ("vocab.json", "merges.txt", "added_tokens.json")
_BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")
_KNOWN_PROCESSORS: Final = frozenset({"ByteLevel", "TemplateProcessing", "Sequence"})
_IDS: Final = ("bos_token_id", "eos_token_id", "pad_token_id")


def refuse_untrimmable(folder: Path) -> None:
    """Return if the tokenizer of a model folder can be made smaller.

    Raises:
        BadInputError: it is no BPE, or has parts of which nobody knows whether they hold ids.
    """
    path = folder / _TOKENIZER
    if not path.is_file():
        raise _unfit("there is no tokenizer.json")
    told = json.loads(path.read_text(encoding="utf-8"))
    model = told["model"]
    if model.get("type") != "BPE":
        raise _unfit(f"its tokenizer is {model.get('type')}")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise _unfit("its tokens have marks at their ends")
    others = set(_kinds(told.get("post_processor"))) - _KNOWN_PROCESSORS
    if others:
        raise _unfit(f"its post-processor is {', '.join(sorted(others))}")


def kept_tokens(folder: Path, used: Iterable[int]) -> list[int]:
    """The ids that stay, ascending, of the tokenizer in `folder` where `used` are in the rows."""
    told = json.loads((folder / _TOKENIZER).read_text(encoding="utf-8"))
    model = told["model"]
    number_of: dict[str, int] = model["vocab"]
    word_of = {number: word for word, number in number_of.items()}
    added = {token["id"] for token in told["added_tokens"]}
    words = {word_of[number] for number in used if number in word_of}
    words |= {word for word in number_of if _is_byte(word, falls_back=model.get("byte_fallback"))}
    words |= {model["unk_token"]} & number_of.keys()
    parts = defaultdict[str, list[str]](list)
    for left, right in _pairs(model):
        parts[left + right] += (left, right)
    open_words = list(words)
    while open_words:
        for part in parts[open_words.pop()]:
            if part not in words:
                words.add(part)
                open_words.append(part)
    return sorted(added | {number_of[word] for word in words})


def used_tokens(request: StageRequest, prepared: Prepared, general: TokenRows) -> set[int]:
    """The ids that are in a row of the job, or in the text that shows what is forgotten."""
    rows = [prepared.train, prepared.validation, general, *prepared.rejected.values()]
    if request.spec.dataset.replay is not None:
        rows.append(load_replay(request))
    return {int(number) for each in rows for number in np.unique(each.input_ids)}


def require_equal_rows(found: TokenRows, expected: TokenRows) -> None:
    """Return if the smaller tokenizer makes the tokens of text that the whole one made.

    Raises:
        VerdictError: it does not: some part of it is not understood.
    """
    if np.array_equal(found.input_ids, expected.input_ids):
        return
    raise VerdictError(
        Reason.COMPRESSION_LOSS_EXCEEDED,
        "compression.prune.axes: with fewer tokens the tokenizer makes other tokens of the general "
        "text, all of whose tokens were kept; leave vocabulary out",
    )


def write_trimmed_tokenizer(folder: Path, *, kept: Iterable[int]) -> None:
    """Leave in the tokenizer's files in `folder` the tokens `kept`, with their new ids."""
    new = {old: number for number, old in enumerate(kept)}
    path = folder / _TOKENIZER
    told = json.loads(path.read_text(encoding="utf-8"))
    _trim(told, new)
    path.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    settings = folder / _SETTINGS
    if settings.is_file():
        config = json.loads(settings.read_text(encoding="utf-8"))
        added = config.get("added_tokens_decoder")
        if added:
            renumbered = {str(new[int(old)]): token for old, token in added.items()}
            config["added_tokens_decoder"] = renumbered
        settings.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")
    for name in _STALE:
        (folder / name).unlink(missing_ok=True)


def trim_embeddings(model: Any, *, kept: list[int]) -> None:
    """Leave the rows of the tokens `kept` in embeddings and head of `model`, in place."""
    rows = torch.tensor(kept)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head.weight is embeddings.weight
    embeddings.weight = _parameter(embeddings.weight, rows)
    embeddings.num_embeddings = len(kept)
    head.weight = embeddings.weight if is_tied else _parameter(head.weight, rows)
    if getattr(head, "bias", None) is not None:
        head.bias = _parameter(head.bias, rows)
    head.out_features = len(kept)
    new = {old: number for number, old in enumerate(kept)}
    if embeddings.padding_idx is not None:
        embeddings.padding_idx = new.get(embeddings.padding_idx)
    model.config.vocab_size = len(kept)
    for settings in (model.config, model.generation_config):
        for name in _IDS:
            setattr(settings, name, _renumbered(getattr(settings, name, None), new))


def _trim(told: dict[str, Any], new: Mapping[int, int]) -> None:
    model = told["model"]
    model["vocab"] = {word: new[old] for word, old in model["vocab"].items() if old in new}
    words = model["vocab"].keys()
    as_text = bool(model["merges"]) and isinstance(model["merges"][0], str)
    kept = [pair for pair in _pairs(model) if words >= {*pair, pair[0] + pair[1]}]
    model["merges"] = [" ".join(pair) if as_text else list(pair) for pair in kept]
    for token in told["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber_templates(told.get("post_processor"), new)
    padding = told.get("padding")
    if padding:
        padding["pad_id"] = new[padding["pad_id"]]


def _renumber_templates(processor: Any, new: Mapping[int, int]) -> None:
    for part in (processor or {}).get("processors", ()):
        _renumber_templates(part, new)
    for token in ((processor or {}).get("special_tokens") or {}).values():
        token["ids"] = [new[old] for old in token["ids"]]


def _kinds(processor: Any) -> Iterator[str]:
    if processor:
        yield processor["type"]
        for part in processor.get("processors", ()):
            yield from _kinds(part)


def _pairs(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _is_byte(word: str, *, falls_back: bool | None) -> bool:
    """Whether it is one of those that any text can be made of."""
    return bool(_BYTE.fullmatch(word)) if falls_back else len(word) == 1


def _parameter(weight: torch.Tensor, rows: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach()[rows.to(weight.device)].clone(), requires_grad=False)


def _renumbered(given: int | list[int] | None, new: Mapping[int, int]) -> int | list[int] | None:
    """Token ids of a configuration; some name tokens that the tokenizer has not."""
    if isinstance(given, list):
        return [new[old] for old in given if old in new]
    return None if given is None else new.get(given)


def _unfit(because: str) -> BadInputError:
    return BadInputError(
        Reason.INVALID_SPEC,
        f"compression.prune.axes: vocabulary goes only of byte-level BPE and its like, and "
        f"{because}; leave vocabulary out",
    )
