"""What `plan` is told of a data file before anything has read it."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tunesmith_trainer.data.column_names import Proposal, propose_columns
from tunesmith_trainer.data.detection import describe_file, main

CSV = b"question;answer\nIs it on?;Yes.\n"
JSONL = b'{"messages": [{"role": "user", "content": "On?"}]}\n'
COLUMNS = {"prompt": "question", "completion": "answer"}


def _told(path: Path, content: bytes, **options: Any) -> dict[str, Any]:
    path.write_bytes(content)
    given: dict[str, Any] = {"name": "auto", "columns": {}, "max_bad_rows": 0} | options
    return describe_file(path, label=path.name, **given)


def test_a_file_is_told_by_its_first_rows(tmp_path: Path) -> None:
    zst = bytes(pa.Codec("zstd").compress(CSV))

    assert _told(tmp_path / "a.jsonl.gz", gzip.compress(JSONL)) == {
        "compression": "gzip",
        "syntax": "jsonl",
        "fields": ["messages"],
        "proposed": {"format": "messages", "columns": {}},
        "format": "messages",
        "unused": [],
    }
    assert _told(tmp_path / "a.csv.zst", zst, columns=COLUMNS) == {
        "compression": "Zstandard",
        "syntax": "csv",
        "separator": ";",
        "fields": ["question", "answer"],
        "proposed": {"format": "promptCompletion", "columns": COLUMNS},
        "format": "promptCompletion",
        "unused": [],
    }
    assert _told(tmp_path / "b.jsonl", JSONL, name="messages")["format"] == "messages"
    # A row that may be bad hides no format, and rows behind those are not looked at.
    assert _told(tmp_path / "c.jsonl", b"broken\n" + JSONL * 2, max_bad_rows=1)["format"]
    assert _told(tmp_path / "d.jsonl", JSONL + b"broken\n")["format"] == "messages"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", CSV, "a.csv:2: given the fields answer, question; no format has these fields"),
        (
            "a.jsonl",
            b"broken\n",
            "a.jsonl:1: given a line of 6 characters; this is not a JSON line",
        ),
        ("a.csv.gz", b"\x1f\x8bcut", "a.csv.gz: given damaged or cut off data; this is not gzip"),
        ("a.csv", b"question;answer\n", "a.csv: given a file without rows"),
    ],
)
def test_what_prepare_would_refuse_is_a_problem(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    assert problem in _told(tmp_path / name, content)["problem"]


def test_the_answer_to_a_question_is_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CSV)
    question = {"path": str(path), "label": "a.csv", "format": "auto", "columns": COLUMNS}

    main(json.dumps(question | {"maxBadRows": 0}))

    assert json.loads(capsys.readouterr().out)["separator"] == ";"


@pytest.mark.parametrize(
    ("names", "form", "columns"),
    [
        (("Question", " answer "), "promptCompletion",
         {"prompt": "Question", "completion": " answer "}),
        (("prompt", "response"), "promptCompletion", {"completion": "response"}),
        (("instruction", "response"), "promptCompletion",
         {"prompt": "instruction", "completion": "response"}),
        (("instruction", "context", "response"), "alpaca",
         {"input": "context", "output": "response"}),
        (("question", "chosen", "rejected"), "preference", {"prompt": "question"}),
        (("id", "chat"), "messages", {"messages": "chat"}),
        (("Body",), "text", {"text": "Body"}),
    ],
)  # fmt: skip
def test_columns_are_proposed_by_their_usual_names(
    names: tuple[str, ...], form: str, columns: dict[str, str]
) -> None:
    assert propose_columns(names) == Proposal(form, columns)


@pytest.mark.parametrize(
    "names", [("id", "title"), ("Title", "Text"), ("question", "answer", "response"), ()]
)
def test_columns_that_may_be_this_or_that_are_not_proposed(names: tuple[str, ...]) -> None:
    assert propose_columns(names) is None
