"""Fewer tokens: ids map, text comes back, and logits are those of the whole model."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from small_models import CORPUS, SPECIAL_TOKENS, make_tiny_model, make_tiny_tokenizer
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.held_out_roles import numbers_of
from tunesmith_trainer.distill.vocabulary import (
    kept_tokens,
    refuse_untrimmable,
    trim_embeddings,
    write_trimmed_tokenizer,
)
from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring
from tunesmith_trainer.models import load_tokenizer

TEXT = "<|im_start|>user\nMy screen stays dark.<|im_end|>\n"
OTHERS = ("Größe 🙂 \t 12,345", "def f(x):\n    return x ** 2", "Привет, мир", *CORPUS[:20])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def trimmed(folder: Path, target: Path, *, text: str = TEXT) -> list[int]:
    whole = load_tokenizer(folder)
    whole.save_pretrained(target)
    kept = kept_tokens(folder, whole(text, add_special_tokens=False)["input_ids"])
    write_trimmed_tokenizer(target, kept=kept)
    return kept


def test_text_of_kept_tokens_becomes_the_same_tokens_with_new_ids(
    folder: Path, tmp_path: Path
) -> None:
    kept = trimmed(folder, tmp_path)
    whole, small = load_tokenizer(folder), load_tokenizer(tmp_path)

    assert len(small) == len(kept) < len(whole)
    before = whole(TEXT, add_special_tokens=False)["input_ids"]
    after = small(TEXT, add_special_tokens=False)["input_ids"]
    assert after == numbers_of(np.array(kept))[before].tolist()
    assert small.convert_ids_to_tokens(after) == whole.convert_ids_to_tokens(before)


def test_any_other_text_comes_back_in_more_tokens(folder: Path, tmp_path: Path) -> None:
    trimmed(folder, tmp_path)
    whole, small = load_tokenizer(folder), load_tokenizer(tmp_path)

    for text in OTHERS:
        ids = small(text, add_special_tokens=False)["input_ids"]
        assert small.decode(ids) == text
        assert len(ids) >= len(whole(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("seed", range(20))
def test_whatever_was_kept_is_merged_as_before(folder: Path, tmp_path: Path, seed: int) -> None:
    choice = random.Random(seed)
    text = " ".join(choice.choices(" ".join(CORPUS).split(), k=12))
    kept = trimmed(folder, tmp_path, text=text)
    whole, small = load_tokenizer(folder), load_tokenizer(tmp_path)

    expected = numbers_of(np.array(kept))[whole(text, add_special_tokens=False)["input_ids"]]

    assert small(text, add_special_tokens=False)["input_ids"] == expected.tolist()


def test_special_tokens_stay_and_are_known_by_their_new_ids(folder: Path, tmp_path: Path) -> None:
    trimmed(folder, tmp_path)
    small = load_tokenizer(tmp_path)

    for token in SPECIAL_TOKENS:
        (number,) = small(token, add_special_tokens=False)["input_ids"]
        assert small.convert_ids_to_tokens(number) == token
    assert small.eos_token == "<|im_end|>"
    assert small.chat_template == load_tokenizer(folder).chat_template


def test_logits_are_those_of_the_whole_model_at_the_tokens_that_stay(
    folder: Path, tmp_path: Path
) -> None:
    kept = trimmed(folder, tmp_path)
    whole, small = load_for_scoring(folder), load_for_scoring(folder)

    trim_embeddings(small, kept=kept)

    before = load_tokenizer(folder)(TEXT, return_tensors="pt", add_special_tokens=False).input_ids
    after = torch.from_numpy(numbers_of(np.array(kept))[before.numpy()]).long()
    with torch.inference_mode():
        expected = whole(before).logits[..., kept]
        assert torch.equal(small(after).logits, expected)
    assert small.get_output_embeddings().weight is small.get_input_embeddings().weight
    assert small.config.vocab_size == len(kept)
    assert small.config.eos_token_id == load_tokenizer(tmp_path).eos_token_id
    # As it is loaded again, by us or by vLLM.
    small.save_pretrained(tmp_path)
    with torch.inference_mode():
        assert torch.equal(load_for_scoring(tmp_path)(after).logits, expected)


def test_ids_in_templates_are_renumbered(folder: Path, tmp_path: Path) -> None:
    load_tokenizer(folder).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    told = json.loads(path.read_text())
    end = load_tokenizer(folder).eos_token_id
    told["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}],
        "pair": [],
        "special_tokens": {
            "<|im_end|>": {"id": "<|im_end|>", "ids": [end], "tokens": ["<|im_end|>"]}
        },
    }  # fmt: skip
    path.write_text(json.dumps(told))
    refuse_untrimmable(tmp_path)

    kept = kept_tokens(tmp_path, [end])
    write_trimmed_tokenizer(tmp_path, kept=kept)

    small = load_tokenizer(tmp_path)
    assert small("a")["input_ids"][-1] == small.eos_token_id == kept.index(end)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": {"type": "Unigram"}}, "its tokenizer is Unigram"),
        ({"post_processor": {"type": "BertProcessing"}}, "its post-processor is BertProcessing"),
    ],
)
def test_what_may_hold_other_ids_is_refused(
    tmp_path: Path, change: dict[str, object], told: str
) -> None:
    make_tiny_tokenizer().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(BadInputError, match=told):
        refuse_untrimmable(tmp_path)
