"""Files to raw rows: jsonl, json, csv, parquet and yaml, each row with its file and line.

The first step of the data. `file_formats` says which of them a file is; nothing is understood here
but its syntax, and what the fields mean is said in `formats`. Text is UTF-8, strictly, with or
without a byte order mark. What is wrong goes to `Problems`, so that a run names as much of it as
it can.

A YAML file is a list of rows, or has `conversations`, each a list of turns: the dialect of
chatterbot-corpus.
"""

import csv
import io
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import yaml

from tunesmith_trainer.data.file_formats import (
    COMPRESSED_SUFFIXES,
    SUFFIXES,
    Syntax,
    decompressed,
    separator_of,
    syntax_of,
)
from tunesmith_trainer.data.rows import Problems, RawRow, counted, described, names_of

# Python's own limit is 131,072 characters; a row of training data may hold a long document.
_CSV_FIELD_LIMIT: Final = 1 << 30

# The same loader on top of libyaml, ten times as fast where it was built in.
_YamlLoader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_rows(path: Path, *, label: str, problems: Problems) -> list[RawRow]:
    """The rows of one file, which messages call `label`; whatever is wrong goes to `problems`."""
    before = problems.count
    content = decompressed(path.read_bytes(), label=label, problems=problems)
    if content is None:
        return []
    syntax = syntax_of(content, name=path.name)
    if syntax is None:
        problems.add(
            label,
            given=f"a file that ends with '{path.suffix}', and holds no JSON",
            rule=f"data files end with {', '.join(sorted(SUFFIXES))}, and may be compressed to "
            f"{' or '.join(COMPRESSED_SUFFIXES)}",
            remedy="rename or convert it",
            is_bad_row=False,
        )
        return []
    rows = list(rows_in(content, syntax, label=label, problems=problems))
    if not rows and problems.count == before:
        add_empty(label, problems)
    return rows


def add_empty(label: str, problems: Problems) -> None:
    """Note that a file has no rows."""
    problems.add(
        label,
        given="a file without rows",
        rule="a data file has at least one row",
        remedy="check what wrote it",
        is_bad_row=False,
    )


def rows_in(content: bytes, syntax: Syntax, *, label: str, problems: Problems) -> Iterator[RawRow]:
    """The rows of decompressed content, one by one as far as the syntax allows."""
    return _READERS[syntax](content, label, problems)


def _text_of(raw: bytes, label: str, problems: Problems) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problems.add(
            f"{label}:{line}",
            given=f"the byte 0x{raw[error.start]:02x} at byte {error.start} of the file",
            rule="text is UTF-8",
            remedy="save the file as UTF-8",
            is_bad_row=False,
        )
        return ""


def _read_jsonl(content: bytes, label: str, problems: Problems) -> Iterator[RawRow]:
    # Only \n ends a line: JSON strings may hold the other line ends that splitlines() knows. Lines
    # are decoded one by one, for a byte that is no UTF-8 breaks its own row and no other.
    for number, raw in enumerate(content.removeprefix(BOM_UTF8).split(b"\n"), start=1):
        source = f"{label}:{number}"
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError as error:
            problems.add(
                source,
                given=f"the byte 0x{raw[error.start]:02x} at byte {error.start} of the line",
                rule="text is UTF-8",
                remedy="save the file as UTF-8",
            )
            continue
        if not line:
            continue
        try:
            value = json.loads(line)
        # RecursionError: brackets nested a thousand deep are one line to a parser, and broken data.
        except (json.JSONDecodeError, RecursionError) as error:
            given = f"a line of {counted(len(line), 'character')}"
            _add_broken(
                problems, source, given=given, kind="a JSON line", why=error, is_bad_row=True
            )
            continue
        yield from _as_row(value, source, problems)


def _read_json(content: bytes, label: str, problems: Problems) -> Iterator[RawRow]:
    text = _text_of(content, label, problems)
    if not text.strip():
        return
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        number = getattr(error, "lineno", 1)
        line = text.split("\n")[number - 1].strip()
        given = f"a line of {counted(len(line), 'character')}" if line else "the end of the file"
        _add_broken(problems, f"{label}:{number}", given=given, kind="JSON", why=error)
        return
    if not isinstance(value, list):
        problems.add(
            label,
            given=f"JSON with {described(value)} at its top",
            rule="a .json file holds one list of rows",
            remedy="put the rows in [ ], or write one row a line and name the file .jsonl",
            is_bad_row=False,
        )
        return
    for number, item in enumerate(value, start=1):
        yield from _as_row(item, f"{label}:{number}", problems)


def _read_csv(content: bytes, label: str, problems: Problems) -> Iterator[RawRow]:
    csv.field_size_limit(_CSV_FIELD_LIMIT)
    text = _text_of(content, label, problems)
    separator = separator_of(text)
    # newline="" leaves line ends inside quoted fields as they are; strict refuses what the module
    # would otherwise guess, such as a quote that nothing closes.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    # A row may span lines, so it starts where the one before it ended: reader.line_num is its end.
    start = 1
    try:
        for cells in reader:
            source, start = f"{label}:{start}", reader.line_num + 1
            if not cells or cells == [""]:
                continue
            if header is None:
                header = _csv_header(cells, source, problems)
            elif len(cells) == len(header):
                value = dict(zip(header, cells, strict=True))
                yield RawRow(source=source, value=value, is_typed=False)
            else:
                problems.add(
                    source,
                    given=f"{len(cells)} fields",
                    rule=f"every row has the {len(header)} fields of the header",
                    remedy=f'put fields that hold {separator!r} or line ends in "quotes"',
                )
    except csv.Error as error:
        given = "a row that does not end" if "end of data" in str(error) else "a broken row"
        _add_broken(problems, f"{label}:{start}", given=given, kind="CSV", why=error)


def _csv_header(cells: list[str], source: str, problems: Problems) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names) or not all(names):
        problems.add(
            source,
            given=f"the columns {names_of(names)}",
            rule="the first row of a CSV file names each column once",
            remedy="give every column its own name",
            is_bad_row=False,
        )
    return names


def _read_parquet(content: bytes, label: str, problems: Problems) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            for batch in file.iter_batches():
                for value in batch.to_pylist():
                    number += 1
                    yield RawRow(source=f"{label}:{number}", value=_without_filled_in(value))
    except (pa.ArrowInvalid, OSError) as error:
        _add_broken(problems, label, given="damaged or cut off data", kind="parquet", why=error)


def _without_filled_in(value: Any, *, inside: bool = False) -> Any:
    """The row, its tools and calls without nulls.

    Columns have one type: where one call has a unit and another a city, both have both, one null.
    """
    if isinstance(value, list):
        return [_without_filled_in(item, inside=inside) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_filled_in(item, inside=inside or key in {"tools", "tool_calls"})
        for key, item in value.items()
        if not (inside and item is None)
    }


def _read_yaml(content: bytes, label: str, problems: Problems) -> Iterator[RawRow]:
    loader = _YamlLoader(_text_of(content, label, problems))
    try:
        # The nodes, not what they stand for: only nodes know their lines.
        for node in _yaml_items(loader.get_single_node(), label, problems):
            before = problems.count
            if isinstance(node, yaml.SequenceNode):
                # A row whose turn is none is one bad row, however many such turns it has.
                turns = (_yaml_turn(loader, turn, label, problems) for turn in node.value)
                value: Any = list(takewhile(lambda _: problems.count == before, turns))  # noqa: B023
                if problems.count > before:
                    continue
            else:
                value = loader.construct_object(node, deep=True)
            yield from _as_row(value, f"{label}:{node.start_mark.line + 1}", problems)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problems.add(
            f"{label}:{mark.line + 1}" if mark else label,
            given="a broken document",
            rule=f"this is not YAML ({_yaml_problem(error)})",
            remedy="mend it, or check whether the file was cut off",
            is_bad_row=False,
        )
    finally:
        loader.dispose()


def _yaml_problem(error: Exception) -> str:
    # Scanner and parser name what they miss; whatever comes after them repeats tags and values.
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return str(error.problem)
    return f"it ends in a {type(error).__name__}"


def _yaml_items(root: yaml.Node | None, label: str, problems: Problems) -> list[yaml.Node]:
    """The nodes of the rows, whichever of the two shapes the file has."""
    if root is None:
        return []
    if isinstance(root, yaml.MappingNode):
        named = {key.value: value for key, value in root.value}
        root = named.get("conversations", root)
    if isinstance(root, yaml.SequenceNode):
        return list(root.value)
    problems.add(
        f"{label}:{root.start_mark.line + 1}",
        given="a document without conversations",
        rule="a YAML file is a list of rows, or has `conversations: [[question, answer], …]`",
        remedy="bring it into one of these shapes",
        is_bad_row=False,
    )
    return []


def _yaml_turn(loader: Any, node: yaml.Node, label: str, problems: Problems) -> str:
    # Taken as written, not constructed: an unquoted `yes`, `10` or `1:30` stays the author's word,
    # where YAML 1.1 would make it a boolean, a number, a number to base 60.
    if isinstance(node, yaml.ScalarNode):
        return "" if node.tag == "tag:yaml.org,2002:null" else str(node.value)
    problems.add(
        f"{label}:{node.start_mark.line + 1}",
        given=described(loader.construct_object(node, deep=True)),
        rule="a turn is text",
        remedy="put it in quotes: an unquoted colon, bracket or brace makes it something else",
    )
    return ""


def _as_row(value: Any, source: str, problems: Problems) -> Iterator[RawRow]:
    if isinstance(value, dict | list):
        yield RawRow(source=source, value=value)
        return
    problems.add(
        source,
        given=described(value),
        rule="a row is an object with fields, or a list of turns",
        remedy='write {"field": …}',
    )


def _add_broken(
    problems: Problems,
    source: str,
    *,
    given: str,
    kind: str,
    why: Exception,
    is_bad_row: bool = False,
) -> None:
    problems.add(
        source,
        given=given,
        rule=f"this is not {kind} ({str(why).splitlines()[0]})",
        remedy="mend it, or check whether the file was cut off",
        is_bad_row=is_bad_row,
    )


_READERS: Final[Mapping[Syntax, Callable[[bytes, str, Problems], Iterator[RawRow]]]] = {
    "csv": _read_csv,
    "json": _read_json,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "yaml": _read_yaml,
}
