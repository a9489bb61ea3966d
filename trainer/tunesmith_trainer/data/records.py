"""One row as people read it, beside its tokens: where it came from, what was said.

prepare writes `train.jsonl` and `validation.jsonl`, one record a line in the order of the
`TokenRows`; evaluate and compress take prompts and reference answers from them.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `role` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class RowRecord:
    """A kept row.

    Attributes:
        source: "file:line" of the row in the user's data.
        messages: the conversation; None for rows of format text.
        text: the text of a row of format text; None for conversations.
        prompt: rendered up to and with the generation prompt of the last assistant turn.
        reference: what the assistant says in that turn.
    """

    source: str
    messages: list[Message] | None
    text: str | None
    prompt: str | None
    reference: str | None


def write_records(records: Iterable[RowRecord], path: Path) -> None:
    """Write one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")


def read_records(path: Path) -> list[RowRecord]:
    """Read what `write_records` wrote.

    Raises:
        OSError: there is no such file.
        ValueError: a line is no record.
    """
    with path.open(encoding="utf-8") as file:
        return [_record(json.loads(line)) for line in file]


def _record(fields: dict[str, Any]) -> RowRecord:
    messages = fields.pop("messages")
    try:
        turns = None if messages is None else [Message(**each) for each in messages]
        return RowRecord(messages=turns, **fields)
    except TypeError as error:
        raise ValueError(f"not the record of a row: {error}") from error
