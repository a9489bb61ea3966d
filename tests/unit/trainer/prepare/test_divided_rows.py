"""Splits by what stands in a column: strata, and the time of a row."""

import json
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import load_outcome, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import BadInputError

DATES = ("2026-01-05", "2026-01-05T10:00:00Z", "2026-01-05T13:00:00+03:00", "2026-02-01")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def row(number: int, **columns: Any) -> dict[str, Any]:
    return {"prompt": f"What about {number}?", "completion": f"It is {number}.", **columns}


def prepared(root: Path, rows: list[Any], *, model: str, **dataset: Any) -> StageOutcome:
    write_jsonl(root / "rows.jsonl", rows)
    fields = {"train": {"uri": "file://rows.jsonl"}, **dataset}
    return run_prepare(prepare_request(root, model=model, dataset=fields))


def sources(root: Path, outcome: StageOutcome, split: Any, *, model: str) -> list[str]:
    return [record.source for record in load_outcome(root, outcome, model=model).records(split)]


def test_a_rare_label_is_held_out_as_often_as_a_common_one(tmp_path: Path, model: str) -> None:
    rows = [row(number, topic="vpn" if number < 4 else "mail") for number in range(20)]

    outcome = prepared(
        tmp_path, rows, model=model, validationFraction=0.25, split={"stratifyBy": "topic"}
    )

    held_out = sources(tmp_path, outcome, "validation", model=model)
    assert len(held_out) == 5
    assert len({"rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3", "rows.jsonl:4"} & {*held_out}) == 1


@pytest.mark.parametrize("split", [{}, {"by": "time", "timeColumn": "at"}])
def test_rows_that_are_nearly_the_same_are_on_one_side(
    tmp_path: Path, model: str, split: dict[str, str]
) -> None:
    """Each of the held-out rows has a twin with another word in it, among the older ones."""
    stories = ("the printer in room one is out of paper", "my mail says that the box is full")
    rows = [
        {
            "prompt": f"Since {day} {story}, what shall I do about it?",
            "completion": f"Wait, {story} for all of us.",
            "at": number,
        }
        for number, (day, story) in enumerate(
            [("Monday", stories[0]), ("Monday", stories[1]), ("Tuesday", stories[0])]
        )
    ]
    rows.append(row(7, at=7))

    outcome = prepared(
        tmp_path,
        rows,
        model=model,
        validationFraction=0.5,
        split={"nearDuplicates": "together", **split},
    )

    held_out = {*sources(tmp_path, outcome, "validation", model=model)}
    assert len(held_out & {"rows.jsonl:1", "rows.jsonl:3"}) in (0, 2)
    assert not split or held_out == {"rows.jsonl:4"}


def test_the_newest_rows_are_held_out_whatever_their_place(tmp_path: Path, model: str) -> None:
    rows = [row(number, at=f"2026-0{9 - number}-01") for number in range(8)]

    outcome = prepared(
        tmp_path,
        rows,
        model=model,
        validationFraction=0.25,
        split={"by": "time", "timeColumn": "at"},
    )

    assert sources(tmp_path, outcome, "validation", model=model) == ["rows.jsonl:1", "rows.jsonl:2"]


def test_a_question_that_was_asked_before_is_not_held_out(tmp_path: Path, model: str) -> None:
    rows = [row(number, at=number) for number in (0, 1, 2, 3, 4, 5)]
    rows[5] |= {"prompt": rows[0]["prompt"], "completion": "Another answer."}

    outcome = prepared(
        tmp_path,
        rows,
        model=model,
        validationFraction=0.34,
        split={"by": "time", "timeColumn": "at"},
    )

    assert sources(tmp_path, outcome, "validation", model=model) == ["rows.jsonl:5"]
    removed: Any = outcome.facts["removed"]
    assert removed["inValidation"] == 1
    assert (
        "1 of the newest row(s) left out: older rows have the same first question"
        in outcome.warnings
    )


def test_times_with_a_zone_and_without_one_are_compared(tmp_path: Path, model: str) -> None:
    rows = [row(number, at=date) for number, date in enumerate(DATES)]

    outcome = prepared(
        tmp_path,
        rows,
        model=model,
        validationFraction=0.5,
        split={"by": "time", "timeColumn": "at"},
    )

    # The second and the third are one moment, which stays on the older side.
    assert sources(tmp_path, outcome, "validation", model=model) == ["rows.jsonl:4"]


@pytest.mark.parametrize(
    ("columns", "split", "words"),
    [
        ({"a": 1}, {"stratifyBy": "topic"}, "dataset.split.stratifyBy: given topic, which no row"),
        ({"topic": ["a"]}, {"stratifyBy": "topic"}, "topic: a list of 1 item"),
        ({"topic": "long " * 20}, {"stratifyBy": "topic"}, "topic: text of 100 characters"),
        ({"at": "soon"}, {"by": "time", "timeColumn": "at"}, "at: text of 4 characters"),
        ({"at": None}, {"by": "time", "timeColumn": "at"}, "needs the time of every row"),
        ({"at": 1}, {"by": "time", "timeColumn": "at"}, "of 6 rows 0 are newer"),
        ({"at": float("nan")}, {"by": "time", "timeColumn": "at"}, "needs the time of every row"),
    ],
)
def test_a_column_that_does_not_divide_the_rows_is_refused(
    tmp_path: Path, model: str, columns: dict[str, Any], split: dict[str, str], words: str
) -> None:
    rows = [row(number, **columns) for number in range(6)]

    with pytest.raises(BadInputError) as caught:
        prepared(tmp_path, rows, model=model, split=split)

    assert words in caught.value.message
    assert "soon" not in caught.value.message


def test_numbers_and_dates_are_not_mixed(tmp_path: Path, model: str) -> None:
    rows = [row(number, at=number if number % 2 else "2026-01-01") for number in range(6)]

    with pytest.raises(BadInputError, match="some rows have numbers and some dates"):
        prepared(tmp_path, rows, model=model, split={"by": "time", "timeColumn": "at"})


def test_balancing_changes_no_held_out_row_and_is_told(tmp_path: Path, model: str) -> None:
    rows = [row(number, topic="vpn" if number < 8 else "mail") for number in range(30)]
    balance = {"columns": ["topic"], "maxRepeats": 9}

    without = prepared(tmp_path, rows, model=model)
    held_out = sources(tmp_path, without, "validation", model=model)
    outcome = prepared(tmp_path, rows, model=model, balance=balance)

    card = json.loads((tmp_path / "artifacts" / "data-card.json").read_text(encoding="utf-8"))
    sizes = [group["after"] for group in card["balance"]["groups"]]
    assert sources(tmp_path, outcome, "validation", model=model) == held_out
    assert sizes[0] == sizes[1]
    assert outcome.facts["numTrainRows"] == sum(sizes)
    assert card["rows"]["kept"] == 30
    assert "balanced by topic: 2 groups" in outcome.message
