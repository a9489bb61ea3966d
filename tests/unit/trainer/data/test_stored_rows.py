"""Rows on disk: what a reader sees of them, and that nobody sees the file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith_trainer.data.loss_mask import TokenRow
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Message, Origin, Row, ToolCall
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.prepare.tokenization import TokenizedRow

NUMBERS = StoredRows.of(range(1000))


def test_they_read_as_the_list_that_they_were_written_from() -> None:
    assert list(NUMBERS) == list(range(1000))
    assert (len(NUMBERS), NUMBERS[0], NUMBERS[-1], NUMBERS[517]) == (1000, 0, 999, 517)
    assert list(NUMBERS[990::3]) == [990, 993, 996, 999]
    assert list(StoredRows.of([])) == []


def test_a_choice_has_its_own_order_and_may_name_a_row_twice() -> None:
    chosen = NUMBERS.chosen([900, 3, 3])

    assert list(chosen) == [900, 3, 3]
    assert list(chosen.chosen([2, 0])) == [3, 900]


def test_two_readers_at_once_see_their_own_places() -> None:
    pairs = list(zip(NUMBERS, NUMBERS[500:], strict=False))

    assert pairs[499] == (499, 999)


def test_the_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    rows = StoredRows.of(["a row"])

    assert list(rows) == ["a row"]
    assert list(tmp_path.iterdir()) == []


def test_what_is_raised_on_the_way_is_passed_on() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        StoredRows.of(broken())


def test_rows_keep_all_that_they_hold() -> None:
    call = ToolCall(name="look", arguments={"at": 1}, id="c")
    answer = Message("assistant", "", (call,), trained=False, thinking="hm")
    row = Row(
        source="a.jsonl:1",
        messages=(Message("user", "Who?"), answer, Message("tool", "x", (), "c", "look")),
        rejected=(Message("user", "Who?"), Message("assistant", "You.")),
        num_prompt=1,
        num_joined=2,
        tools=({"type": "function"},),
        labels={"topic": "vpn"},
        origin=Origin("synonyms", parent="a.jsonl:7"),
    )
    record = RowRecord("a.jsonl:1", list(row.messages), None, "p", "r", "no", row.tools, row.origin)
    tokens = TokenRow(ids=(1, 70_000), trained=(False, True))
    tokenized = TokenizedRow(row=row, tokens=tokens, record=record, rejected=tokens)

    assert StoredRows.of([tokenized])[0] == tokenized
