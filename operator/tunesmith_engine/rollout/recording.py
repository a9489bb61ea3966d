"""A rollout as JSON Lines: first what it was judged by, then one sample, or one reading, a line.

Whoever runs a rollout writes the lines as samples come; `tunesmith judge replay` reads them. A
recording holds numbers, words of a fixed form and digests, never what a client wrote.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Annotated, Final, Literal, TypeVar

from pydantic import Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from tunesmith_api.base import ApiModel
from tunesmith_api.field_paths import dotted
from tunesmith_api.json_io import read_json
from tunesmith_api.modeldeployment.limits import Limits
from tunesmith_api.validation_errors import near_match
from tunesmith_engine.rollout.queries import Reading
from tunesmith_engine.rollout.samples import Sample

# At 50 requests a second this is over an hour, and some 30 MB. What writes a recording stops there.
MAX_SAMPLES: Final = 200_000
# A sample with every field takes some 300 characters.
MAX_LINE: Final = 4096
# The first has the limits: eight queries of 2,048 characters, each of which may be written as six.
MAX_FIRST_LINE: Final = 131_072

Line = TypeVar("Line", "Header", "Sample", "Reading")
Timed = TypeVar("Timed", "Sample", "Reading")
VersionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$")]


class Header(ApiModel):
    """The first line.

    `ended_seconds` is how long the rollout went on, if it is known; without it a replay ends with
    the last sample.
    """

    recording: Literal[1] = 1
    tunesmith: VersionName
    stable: VersionName
    candidate: VersionName
    limits: Limits = Field(default_factory=Limits)
    ended_seconds: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """All of a file."""

    header: Header
    samples: tuple[Sample, ...]
    readings: tuple[Reading, ...] = ()

    @property
    def end_seconds(self) -> float:
        """Until when the rollout is known."""
        last = self.samples[-1].time_seconds if self.samples else 0.0
        return max(last, self.header.ended_seconds or 0.0)

    def lines(self) -> Iterator[str]:
        """Every line, without its end; samples and readings by time."""
        yield line_of(self.header)
        records: list[Iterable[Sample | Reading]] = [self.samples, self.readings]
        yield from map(line_of, merge(*records, key=lambda record: record.time_seconds))


class RecordingError(Exception):
    """A line that breaks a rule: its number, what was given, the rule, what to do."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


def line_of(record: Header | Sample | Reading) -> str:
    """One line of a recording, without its end."""
    return record.model_dump_json(by_alias=True, exclude_none=True)


def read_recording(lines: Iterable[str]) -> Recording:
    """The recording that the lines hold.

    Raises:
        RecordingError: a line is none of a recording's, or there are too many.
    """
    header: Header | None = None
    samples: list[Sample] = []
    readings: list[Reading] = []
    for number, line in enumerate(lines, start=1):
        if header is None:
            header = _parse(line, Header, number=number)
            continue
        if len(samples) + len(readings) == MAX_SAMPLES:
            raise RecordingError(
                number, f"more than {MAX_SAMPLES:,} samples; cut the file before this line"
            )
        # The one field that samples have not, in a place where it cannot be a value.
        if line.startswith('{"query":'):
            _append(readings, _parse(line, Reading, number=number), number=number)
        else:
            _append(samples, _parse(line, Sample, number=number), number=number)
    if header is None:
        raise RecordingError(
            1, "the file is empty; the first line says recording, versions and limits"
        )
    return Recording(header, tuple(samples), tuple(readings))


def _append(before: list[Timed], record: Timed, *, number: int) -> None:
    if before and record.time_seconds < before[-1].time_seconds:
        raise RecordingError(
            number,
            f"timeSeconds is {record.time_seconds:g}, before the {before[-1].time_seconds:g} "
            "of the line above; samples stand in the order in which the requests arrived, so "
            "sort the lines by timeSeconds",
        )
    before.append(record)


def _parse(line: str, model: type[Line], *, number: int) -> Line:
    longest = MAX_FIRST_LINE if model is Header else MAX_LINE
    if len(line) > longest:
        raise RecordingError(
            number,
            f"{len(line):,} characters, at most {longest:,} are allowed; a sample holds "
            "numbers only, so leave out what else is in it",
        )
    try:
        given = read_json(line)
    except ValueError as error:
        raise RecordingError(
            number,
            f"is no JSON ({error}); write one object a line, or cut the file here if the "
            "writer was killed",
        ) from error
    if not isinstance(given, dict):
        raise RecordingError(number, "is no JSON object; write one object a line")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise RecordingError(number, _message(error.errors()[0], model)) from error


def _message(details: ErrorDetails, model: type[Header | Sample | Reading]) -> str:
    """What is wrong with a field, and what to do."""
    path = dotted(tuple(part for part in details["loc"] if part != "[key]"))
    if details["type"] == "missing":
        first = " (is this line a sample? The first line holds the limits)"
        return f"{path} is required; add it{first if model is Header else ''}"
    if details["type"] == "extra_forbidden":
        near = near_match(path, [str(field.alias) for field in model.model_fields.values()])
        hint = f"did you mean '{near}'?" if near else "leave it out"
        return f"{path} is an unknown field; {hint}"
    if details["type"] == "value_error":
        return f"{path}: {details['ctx']['error']}" if path else f"{details['ctx']['error']}"
    # Only numbers and short words are shown: a recording must not tell text by way of its errors.
    given = details["input"]
    shown = json.dumps(given) if isinstance(given, int | float) else f"a {type(given).__name__}"
    rule = details["msg"].removeprefix("Input ").removeprefix("String ").removeprefix("Value ")
    return f"{path} is {shown}, but {rule}; mend the line"
