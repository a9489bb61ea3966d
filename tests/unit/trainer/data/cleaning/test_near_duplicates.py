"""Which texts are taken for the same one."""

import random

import numpy as np
import pytest

from tunesmith_trainer.data.cleaning.near_duplicates import (
    NearDuplicateIndex,
    bands_for,
    jaccard,
    near_duplicate_groups,
    sets_of,
)

WORDS = [f"word{number}" for number in range(2000)]


def _text(rng: random.Random, length: int = 60) -> str:
    return " ".join(rng.choices(WORDS, k=length))


def _edited(text: str, rng: random.Random, *, share: float) -> str:
    return " ".join(rng.choice(WORDS) if rng.random() < share else word for word in text.split())


def test_copies_with_a_few_other_words_are_of_one_group_and_strangers_of_none() -> None:
    rng = random.Random(19)
    texts = [_text(rng) for _ in range(300)]
    copies = [_edited(text, rng, share=0.05) for text in texts]

    groups = near_duplicate_groups([*texts, *copies], threshold=0.6, seed=0)

    assert groups[:300] == list(range(300))
    found = sum(group == place for place, group in enumerate(groups[300:]))
    assert found >= 290


def test_the_first_text_of_a_group_stands_for_it_and_likeness_is_handed_on() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve"
    nearly, nearly_that = f"{text} thirteen", f"{text} thirteen fourteen"

    assert near_duplicate_groups(["other", text, nearly, nearly_that], 0.9, 0) == [0, 1, 1, 1]


def test_white_space_case_and_punctuation_make_no_other_text() -> None:
    texts = ["Is it off?\nTurn it on!", "  is it  off - turn it ON", "Is it on?"]

    assert near_duplicate_groups(texts, 0.99, 0) == [0, 0, 2]


@pytest.mark.parametrize("empty", ["", "?!", " \n"])
def test_texts_without_a_word_are_like_no_other(empty: str) -> None:
    assert near_duplicate_groups([empty, "a", empty, "a"], 0.5, 0) == [0, 1, 2, 1]
    assert near_duplicate_groups([], 0.5, 0) == []


def test_scripts_without_spaces_and_broken_characters_are_compared() -> None:
    chinese = "如何重置我的密码请打开设置页面然后选择安全选项"
    texts = [chinese, chinese.replace("然后", "接着"), "\ud800 half a pair", "🙂🙃🙂 half"]

    assert near_duplicate_groups(texts, 0.6, 0) == [0, 0, 2, 3]


def test_a_thousand_copies_are_one_group() -> None:
    groups = near_duplicate_groups(["the same words once more"] * 1000, 0.8, 7)

    assert set(groups) == {0}


def test_the_similarity_is_that_of_pairs_of_words() -> None:
    texts = ["a b c d", "a b c e"]

    # ab and bc are in both; cd and ce in one.
    assert jaccard(sets_of(texts), np.array([[0, 1]])).tolist() == [0.5]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 0.99])
def test_bands_miss_few_pairs_at_the_threshold(threshold: float) -> None:
    num, width = bands_for(threshold)

    assert num * width <= 128
    assert (1 - threshold**width) ** num <= 0.03


def test_another_seed_finds_the_same_clear_copies() -> None:
    rng = random.Random(3)
    texts = [_text(rng) for _ in range(50)]
    texts += [_edited(text, rng, share=0.02) for text in texts]

    assert near_duplicate_groups(texts, 0.6, 1) == near_duplicate_groups(texts, 0.6, 2)


def test_texts_that_fold_to_more_characters_are_told_apart_as_ever() -> None:
    texts = ["Straße nach Süden hin", "eins zwei drei vier", "STRASSE NACH SÜDEN HIN"]

    assert near_duplicate_groups(texts, 0.9, 0) == [0, 1, 0]


def test_texts_are_read_once_and_need_not_lie_in_memory() -> None:
    texts = (f"row {number % 70} of a long file" for number in range(5_000))

    groups = near_duplicate_groups(texts, 0.99, 0)

    assert groups == [number % 70 for number in range(5_000)]


def test_an_index_knows_what_the_search_would_find() -> None:
    rng = random.Random(7)
    known = [_text(rng, 20) for _ in range(400)]
    new = [_edited(text, rng, share=0.08) for text in known[100:160]]
    new += [_text(rng, 20) for _ in range(40)] + ["", "..."]
    index = NearDuplicateIndex(0.6, 0)
    for begin in range(0, 400, 130):
        index.add(known[begin : begin + 130])

    found = index.alike(new)

    groups = near_duplicate_groups([*known, *new], 0.6, 0)[400:]
    assert found == {place: group for place, group in enumerate(groups) if group < 400}
    assert len(found) > 40


def test_an_index_of_nothing_finds_nothing() -> None:
    index = NearDuplicateIndex(0.6, 0)
    index.add([])

    assert index.alike(["one two three", ""]) == {}
    assert index.alike([]) == {}
