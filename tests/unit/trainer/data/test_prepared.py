"""Tokens and records survive the disk."""

from pathlib import Path

import pytest

from tunesmith_trainer.data.prepared import RowRecord, read_row_records, write_row_records
from tunesmith_trainer.data.rows import Message
from tunesmith_trainer.data.token_rows import TokenRows


def test_rows_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    rows = TokenRows.of([([1, 2, 3], [False, True, True]), ([4, 5], [False, False])])
    rows.save(tmp_path / "rows.safetensors")

    loaded = TokenRows.load(tmp_path / "rows.safetensors")

    assert len(loaded) == 2
    assert loaded.lengths.tolist() == [3, 2]
    assert loaded.num_targets == 2
    assert [array.tolist() for array in loaded.row(0)] == [[1, 2, 3], [False, True, True]]


@pytest.mark.parametrize("index", [-1, 1])
def test_a_row_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match="of 1"):
        TokenRows.of([([1], [False])]).row(index)


def test_records_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    records = [
        RowRecord(
            source="a.jsonl:1",
            messages=[Message(role="user", content="é\u2028")],
            text=None,
            prompt="p",
            reference="r",
        ),
        RowRecord(source="a.jsonl:2", messages=None, text="t", prompt=None, reference=None),
    ]
    write_row_records(records, tmp_path / "rows.jsonl")

    assert read_row_records(tmp_path / "rows.jsonl") == records
