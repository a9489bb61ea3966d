"""An engine's greedy tokens beside transformers'."""

import numpy as np

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.export.reference import (
    Agreement,
    Answered,
    Reference,
    compare,
    held_out,
    tokenizes_alike,
)


def reference(ids: list[int], margins: list[float] | None = None) -> Reference:
    return Reference(
        answers=[Answered("a", [1, 2], ids, margins or [1.0] * len(ids))],
        rows=TokenRows.of([([1, 2], [False, True])]),
        losses=RowLosses(sums=np.ones(1), weights=np.ones(1)),
    )


def test_equal_tokens_agree_to_the_end() -> None:
    assert compare(reference([3, 4, 5]), [[3, 4, 5]]) == Agreement(3, 3, differs=False)


def test_what_an_engine_says_beyond_the_end_of_the_answer_is_not_compared() -> None:
    assert compare(reference([3, 4]), [[3, 4, 5]]) == Agreement(2, 2, differs=False)


def test_what_follows_the_first_difference_is_not_counted() -> None:
    assert compare(reference([3, 4, 5, 6]), [[3, 7, 5, 6]]) == Agreement(1, 4, differs=True)


def test_of_two_tokens_that_are_as_likely_either_may_come() -> None:
    tie = [1.0, 1e-4, 1.0]

    assert compare(reference([3, 4, 5], tie), [[3, 7, 8]]) == Agreement(1, 3, differs=False)


def test_the_engines_tokenizer_may_add_a_begin_and_nothing_else() -> None:
    wanted = reference([3])

    assert tokenizes_alike(wanted, [[1, 2]])
    assert tokenizes_alike(wanted, [[0, 1, 2]])
    assert not tokenizes_alike(wanted, [[1, 2, 2]])
    assert not tokenizes_alike(wanted, [[]])


def test_the_rows_are_chosen_by_seed() -> None:
    rows = TokenRows.of([([number, number], [False, True]) for number in range(20)])

    chosen = [held_out(rows, most=5, seed=seed).input_ids.tolist() for seed in (0, 0, 1)]

    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == 10
    assert held_out(rows, most=20, seed=0) is rows
