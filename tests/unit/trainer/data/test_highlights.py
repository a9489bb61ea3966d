"""Highlights as annotators write them: how they are read, and what is refused of them."""

from typing import Any

import pytest

from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning.row_texts import with_texts
from tunesmith_trainer.data.highlights import spans_of, with_highlights
from tunesmith_trainer.data.rows import Highlight, Message, Problems, RawRow, Row

SAID = "no paper, no light, no network"
TURNS = (
    Message("user", "Hello there."),
    Message("assistant", "What is it?"),
    Message("user", SAID),
    Message("assistant", "Plug it in."),
)


def read(
    *values: Any, is_typed: bool = True, is_required: bool = True, turns: Any = TURNS
) -> tuple[list[Row], Problems]:
    problems = Problems()
    raw = [
        RawRow(f"a.jsonl:{n}", {"prompt": "?", **value}, is_typed=is_typed)
        for n, value in enumerate(values, start=1)
    ]
    rows = [Row(each.source, turns) for each in raw]
    given = with_highlights(
        rows, raw=raw, column="because", problems=problems, is_required=is_required
    )
    return list(given), problems


@pytest.mark.parametrize(
    ("value", "highlights"),
    [
        ("light", (Highlight("light"),)),
        ([" no light ", "Hello"], (Highlight("no light"), Highlight("Hello"))),
        ([10, 18], (Highlight("no light", 0),)),
        ([[10, 12], "paper"], (Highlight("no", 1), Highlight("paper"))),
        ([{"start": 19, "end": 23, "labels": ["reason"]}], (Highlight("no", 2),)),
        ([], ()),
        ("", ()),
        (None, ()),
    ],
)
def test_text_and_ranges_are_read_alone_and_in_lists(value: Any, highlights: Any) -> None:
    rows, problems = read({"because": value})

    problems.refuse()
    assert rows[0].highlights == highlights


@pytest.mark.parametrize(
    ("cell", "highlights"),
    [
        ("no light", (Highlight("no light"),)),
        ('["light", [10, 12]]', (Highlight("light"), Highlight("no", 1))),
        ("[10, 12]", (Highlight("no", 1),)),
        ("", ()),
    ],
)
def test_cells_of_text_hold_the_words_or_json(cell: str, highlights: Any) -> None:
    rows, problems = read({"because": cell}, is_typed=False)

    problems.refuse()
    assert rows[0].highlights == highlights


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("no power", r"because: given|because: text of 8 characters; a highlight stands in the pr"),
        ("Plug it in.", "a highlight stands in the prompt"),
        (["light", "  "], "a highlight covers something"),
        ([18, 10], "characters 18 to 10; a range covers words among the 30 characters"),
        ([10, 31], "characters 10 to 31"),
        ([9, 10], "characters 9 to 10"),
        ([True, 3], "because: true or false"),
        (7, "because: a number; a highlight is text, or"),
        ([{"start": 1}], "because: a list of 2 items"),
        ([*(turn.content for turn in TURNS[:3])], "highlights of the whole prompt"),
    ],
)
def test_what_is_no_highlight_is_told_with_its_line(value: Any, told: str) -> None:
    rows, problems = read({"because": "light"}, {"because": value})

    assert [row.source for row in rows] == ["a.jsonl:1"]
    with pytest.raises(BadInputError, match=told) as refused:
        problems.refuse()
    assert refused.value.message.startswith("a.jsonl:2: given because: ")
    assert "leave the highlights of this row out" in refused.value.message
    # Messages go where no row may go.
    assert "no power" not in refused.value.message


def test_a_text_has_no_prompt() -> None:
    problems, raw = Problems(), [RawRow("a:1", {"text": "Hello.", "because": "Hello"})]
    rows = [Row("a:1", text="Hello.")]
    list(with_highlights(rows, raw=raw, column="because", problems=problems, is_required=True))

    with pytest.raises(BadInputError, match="a text has no prompt"):
        problems.refuse()


def test_a_column_that_no_training_row_has_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"dataset\.highlights: given because, which no row"):
        read({}, {})
    assert read({}, is_required=False)[0][0].highlights == ()


def test_highlights_go_along_with_what_cleaning_does_to_the_words() -> None:
    row = Row("a:1", TURNS, highlights=(Highlight("no", 1), Highlight("light")))

    shouted = with_texts(row, str.upper)

    texts = [turn.content for turn in shouted.messages[:-1]]
    spans = spans_of(shouted.highlights, texts, last=2)
    assert [[texts[at][slice(*span)] for span in found] for at, found in enumerate(spans)] == [
        [],
        [],
        ["NO", "LIGHT"],
    ]
    assert spans[2][0] == (10, 12)
