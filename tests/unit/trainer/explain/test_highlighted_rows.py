"""Highlights as tokens of a prompt, and how much of what moves an answer lies on them."""

from typing import Any

import numpy as np
import pytest

from small_models import make_tiny_tokenizer
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Highlight, Message, Problems, Row
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.explain.highlight_share import Occlusions
from tunesmith_trainer.explain.highlighted_rows import HighlightedRows, highlighted_rows
from tunesmith_trainer.prepare.tokenization import RowTokenizer, TokenizedRow

SAID = "My printer shows no light, no paper is in it."


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tiny_tokenizer()


def tokenized(
    tokenizer: Any, *highlights: Highlight, longest: int = 999, is_first: bool = False
) -> TokenizedRow:
    before = (Message("user", "Hello, no hurry."), Message("assistant", "What is it?"))
    turns = (
        *(() if is_first else before),
        Message("user", SAID),
        Message("assistant", "Plug it in."),
    )
    rows = RowTokenizer(tokenizer, longest=longest, overlong="truncatePrompt", problems=Problems())
    row = rows.fitting(Row("a:1", turns, highlights=highlights))
    assert row is not None
    return row


def found(tokenizer: Any, *rows: TokenizedRow) -> HighlightedRows:
    tokens = TokenRows.of((row.tokens.ids, row.tokens.trained) for row in rows)
    return highlighted_rows([row.record for row in rows], tokens, tokenizer)


def words(units: Any) -> list[str]:
    return [unit.text for unit in units]


@pytest.mark.parametrize(
    ("highlight", "inside"),
    [
        (Highlight("no light"), ["no", "light,"]),
        # What touches a word is the word.
        (Highlight("rint"), ["printer"]),
        (Highlight("no"), ["no", "no", "no"]),
        (Highlight("no", 1), ["no"]),
        (Highlight("hurry. "), []),
    ],
)
def test_words_that_are_touched_are_inside(
    tokenizer: Any, highlight: Highlight, inside: list[str]
) -> None:
    rows = found(tokenizer, tokenized(tokenizer, highlight)).rows
    assert [words(row.inside) for row in rows] == ([inside] if inside else [])
    for row in rows:
        assert len(row.inside) + len(row.outside) == 3 + 3 + 10
        assert tokenizer.decode(row.ids[row.num_prompt :]) == "Plug it in.<|im_end|>"
        assert row.chance == len(inside) / 16


def test_the_second_time_is_meant_where_its_number_says_so(tokenizer: Any) -> None:
    (row,) = found(tokenizer, tokenized(tokenizer, Highlight("no", 1))).rows
    behind = [
        word.text for word in (*row.inside, *row.outside) if word.tokens > row.inside[0].tokens
    ]

    assert behind[0] == "paper"


def test_highlights_are_sought_in_what_a_cut_left_of_the_prompt(tokenizer: Any) -> None:
    longest = tokenized(tokenizer, is_first=True).length - 20
    cut, gone = (
        tokenized(tokenizer, highlight, longest=longest, is_first=True)
        for highlight in (Highlight("no", 1), Highlight("printer"))
    )

    rows = found(tokenizer, cut, gone)

    assert [words(row.inside) for row in rows.rows] == [["no"]]
    assert words(rows.rows[0].outside) == ["shows", "no", "light,", "paper", "is", "in", "it."]
    assert (rows.lost, rows.whole, rows.num_given) == (1, 0, 2)
    assert "of 1 the prompt no longer has them (cut off by" in rows.in_words("train")
    assert found(tokenizer, cut).in_words("train") == ""


def test_rows_without_highlights_and_those_of_nothing_else_are_none(tokenizer: Any) -> None:
    everything = (Highlight("Hello, no hurry."), Highlight("What is it?"), Highlight(SAID))
    rows = found(tokenizer, tokenized(tokenizer), tokenized(tokenizer, *everything))

    assert (rows.rows, rows.lost, rows.whole) == ([], 0, 1)


def test_each_word_is_cut_out_once_and_the_answer_stays(tokenizer: Any) -> None:
    (row,) = found(tokenizer, tokenized(tokenizer, Highlight("no light"))).rows
    cut = Occlusions.of([row])

    assert cut.bounds.tolist() == [0, 1 + 16]
    assert cut.is_inside.tolist() == [False, True, True, *[False] * 14]
    answers = {
        tuple(ids[trained].tolist()) for ids, trained in map(cut.tokens.row, range(len(cut.tokens)))
    }
    assert answers == {tuple(row.ids[row.num_prompt :])}
    lengths = cut.tokens.lengths
    gone = [len(word.tokens) for word in (*row.inside, *row.outside)]
    assert (lengths[0] - lengths[1:]).tolist() == gone


def test_the_share_is_that_of_effects_without_their_signs(tokenizer: Any) -> None:
    (row,) = found(tokenizer, tokenized(tokenizer, Highlight("no light"))).rows
    cut = Occlusions.of([row, row])
    losses = np.full(34, 2.0)
    losses[1:5] = (5.0, 1.0, 3.0, 1.0)

    # 3 and 1 inside, 1 and 1 outside; where no word does anything, all do as much.
    assert cut.shares(losses).tolist() == pytest.approx([4 / 6, 2 / 16])


def test_records_keep_their_highlights(tokenizer: Any) -> None:
    record = tokenized(tokenizer, Highlight("no", 1), Highlight("light")).record

    told = record.as_json()

    assert list(told["highlights"]) == [
        {"text": "no", "number": 1},
        {"text": "light", "number": None},
    ]
    assert "highlights" not in RowRecord("a:1", None, "Hello.", None, None).as_json()
