"""Data files of strangers: whatever is in them, rows come or problems are told."""

import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuzzing import LONG, SHORT, fuzz
from tunesmith_trainer.data.readers import read_rows
from tunesmith_trainer.data.rows import Problems

_ROWS: Final = [{"prompt": f"Who is {n}?", "completion": "Me."} for n in range(4)]


def parquet() -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(_ROWS), content)
    return content.getvalue()


_LINES: Final = "".join(f"{json.dumps(row)}\n" for row in _ROWS).encode()
SAMPLES: Final[dict[str, bytes]] = {
    "a.jsonl": _LINES,
    "a.json": json.dumps(_ROWS).encode(),
    "a.csv": b'prompt,completion\r\n"Who,\nthen?",Me.\r\n',
    "a.yaml": b"- &a {prompt: Who?, completion: Me.}\n- *a\n- [Who?, Me.]\n",
    "a.parquet": parquet(),
    "a.jsonl.gz": gzip.compress(_LINES, mtime=0),
    "rows": _LINES,
}


def read(name: str, content: bytes) -> None:
    """Every row is a list or a mapping, and a file that has none has a problem."""
    problems = Problems()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        rows = list(read_rows(path, label=name, problems=problems))
    assert all(isinstance(row.value, dict | list) for row in rows)
    assert rows or problems.count


@pytest.mark.parametrize("name", SAMPLES)
def test_a_data_file_is_read_or_its_problems_told(name: str) -> None:
    fuzz(lambda content: read(name, content), [SAMPLES[name]], refusals=(), examples=SHORT)


@pytest.mark.long
@pytest.mark.parametrize("name", SAMPLES)
def test_a_data_file_is_read_or_its_problems_told_whatever_is_in_it(name: str) -> None:
    fuzz(lambda content: read(name, content), [SAMPLES[name]], refusals=(), examples=LONG)
