"""What holds for every split."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.prepare.splits import joined_keys, split_indices, stratified_indices

KEYS = st.lists(st.integers(0, 8), min_size=2, max_size=40).filter(lambda keys: len(set(keys)) > 1)


@settings(max_examples=60)
@given(keys=KEYS, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_every_row_is_on_one_side_and_no_key_on_both(
    keys: list[int], fraction: float, seed: int
) -> None:
    train, validation = split_indices(keys, fraction=fraction, seed=seed)

    assert sorted(train + validation) == list(range(len(keys)))
    assert train
    assert validation
    assert not {keys[at] for at in train} & {keys[at] for at in validation}


@settings(max_examples=30)
@given(keys=KEYS, seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter(keys: list[int], seed: int) -> None:
    shuffled = random.Random(seed).sample(keys, len(keys))

    sides = [split_indices(order, fraction=0.3, seed=0)[1] for order in (keys, shuffled)]

    assert {keys[at] for at in sides[0]} == {shuffled[at] for at in sides[1]}


def test_ten_rows_and_three_tenths_are_seven_and_three() -> None:
    train, validation = split_indices(list(range(10)), fraction=0.3, seed=0)

    assert (len(train), len(validation)) == (7, 3)


def test_another_seed_gives_another_split() -> None:
    splits = {
        tuple(split_indices(list(range(50)), fraction=0.2, seed=seed)[1]) for seed in range(5)
    }

    assert len(splits) == 5


def test_rows_that_all_share_one_question_cannot_be_split() -> None:
    with pytest.raises(BadInputError, match="no validation rows left: the 3 row"):
        split_indices(["a", "a", "a"], fraction=0.5, seed=0)


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(0, 20), st.sampled_from("abc")), min_size=6, max_size=60),
    seed=st.integers(0, 99),
)
def test_strata_keep_groups_whole_and_none_is_held_out_whole(
    rows: list[tuple[int, str]], seed: int
) -> None:
    keys, strata = [f"{label}{key}" for key, label in rows], [label for _, label in rows]
    if all(len({key for key in keys if key[0] == name}) < 2 for name in set(strata)):
        return

    train, validation = stratified_indices(keys, strata, fraction=0.3, seed=seed)

    assert sorted(train + validation) == list(range(len(keys)))
    assert not {keys[at] for at in train} & {keys[at] for at in validation}
    assert {strata[at] for at in train} == set(strata)
    several = {name for name in set(strata) if len({k for k in keys if k[0] == name}) > 1}
    assert {strata[at] for at in validation} == several


def test_strata_are_held_out_in_equal_parts() -> None:
    strata = ["rare"] * 10 + ["common"] * 90

    _, validation = stratified_indices(list(range(100)), strata, fraction=0.2, seed=0)

    assert [strata[at] for at in validation].count("rare") == 2
    assert len(validation) == 20


def test_strata_of_one_question_each_cannot_be_split() -> None:
    with pytest.raises(BadInputError, match=r"stratifyBy has rows of one first\s*question"):
        stratified_indices(["a", "b"], ["x", "y"], fraction=0.5, seed=0)


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 8)), min_size=1),
    seed=st.integers(0, 99),
)
def test_rows_that_share_a_question_or_a_group_have_one_key_in_any_order(
    rows: list[tuple[str, int]], seed: int
) -> None:
    keys = {row: _joined(rows)[place] for place, row in enumerate(rows)}
    shuffled = random.Random(seed).sample(rows, len(rows))

    assert _joined(shuffled) == [keys[row] for row in shuffled]
    for one in rows:
        for other in rows:
            if one[0] == other[0] or one[1] == other[1]:
                assert keys[one] == keys[other]


def test_a_row_that_is_like_no_other_keeps_its_key() -> None:
    assert _joined([("b", 0), ("c", 1), ("a", 2), ("d", 1)]) == [
        _key(question) for question in "bcac"
    ]


def _joined(rows: list[tuple[str, int]]) -> list[bytes]:
    return joined_keys([_key(question) for question, _ in rows], [group for _, group in rows])


def _key(question: str) -> bytes:
    return question.encode()
