"""The written form of records: one JSON object on each line, with the version of its form.

A line that was cut off by a crash is no record; one of a newer release stops the reader, who would
otherwise write over what it does not understand.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from tunesmith_api.json_io import read_json
from tunesmith_engine.search_memory.records import PastJob

# NB: raise it when a release that knows the number before could no longer read what is written.
VERSION: Final = 1
# Jobs that are remembered; of more, the latest.
MOST_RECORDS: Final = 2000


class NewerVersionError(Exception):
    """A line was written by a release that writes another form; `version` is its number."""

    def __init__(self, line: int, version: int) -> None:
        super().__init__(
            f"line {line} has version {version}, and this release reads up to {VERSION}; use the "
            "release that wrote it, or move the file away to begin anew"
        )
        self.line = line
        self.version = version


@dataclass(frozen=True, slots=True)
class StoredRecords:
    """The records of a file, the latest of each run; `broken` are lines that are none."""

    records: list[PastJob] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    num_lines: int = 0


def line_of(record: PastJob) -> str:
    """A record as a line, with its end."""
    written = record.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps({"version": VERSION, **written}, ensure_ascii=True) + "\n"


def records_in(text: str) -> StoredRecords:
    """All records of a file's text.

    Raises:
        NewerVersionError: a line is of a newer release.
    """
    by_uid: dict[str, PastJob] = {}
    broken = []
    # NB: not `splitlines`, which ends lines at characters that JSON may hold.
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        record = _record(line, number=number)
        if record is None:
            broken.append(number)
        else:
            # Taken out first, so that the order is that of the latest lines.
            by_uid.pop(record.uid, None)
            by_uid[record.uid] = record
    return StoredRecords(list(by_uid.values())[-MOST_RECORDS:], broken, len(lines))


def text_of(records: Iterable[PastJob]) -> str:
    """A file with these records and no others."""
    return "".join(map(line_of, records))


def _record(line: str, *, number: int) -> PastJob | None:
    try:
        written = read_json(line)
    except ValueError:
        return None
    if not isinstance(written, dict):
        return None
    version = written.pop("version", None)
    if isinstance(version, int) and version > VERSION:
        raise NewerVersionError(number, version)
    try:
        return PastJob.model_validate(written)
    except ValidationError:
        return None
