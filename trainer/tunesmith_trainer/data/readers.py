"""Files to raw rows: jsonl, json, csv, parquet and yaml, each row with its file and line.

The first step of the data. `file_formats` says which of them a file is; nothing is understood here
but its syntax, and what the fields mean is said in `formats`. Text is UTF-8, strictly, with or
without a byte order mark. Rows come one by one: JSON Lines, CSV and Parquet may be larger than
memory, JSON and YAML are parsed whole. What is wrong goes to `Problems`, so that a run names as
much of it as it can.

A YAML file is a list of rows, or has `conversations`, each a list of turns: the dialect of
chatterbot-corpus.
"""

import csv
import io
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count, islice, takewhile
from pathlib import Path
from typing import Any, BinaryIO, Final

import yaml

from tunesmith_api.json_io import read_json
from tunesmith_api.yaml_nodes import UnfoldedSizeError, require_shallow, unfolded_characters
from tunesmith_trainer.data.file_formats import (
    COMPRESSED_SUFFIXES,
    SUFFIXES,
    Syntax,
    head_of,
    opened,
    separator_of,
    syntax_of,
)
from tunesmith_trainer.data.rows import Problems, RawRow, counted, described, names_of

# What is longer is no row but a file without line ends, or binary data.
LONGEST_LINE: Final = 1 << 26
# What can only be parsed as a whole takes several times its size.
_LARGEST_WHOLE: Final = 1 << 30
# Values of one row in YAML, which may stand for more than is written.
_MOST_NODES: Final = 100_000
_PARQUET_BATCH: Final = 1024
_HEADER_LINES: Final = 100

# The same loader on top of libyaml, ten times as fast where it was built in.
_YamlLoader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_rows(path: Path, *, label: str, problems: Problems) -> Iterator[RawRow]:
    """The rows of one file, which messages call `label`; whatever is wrong goes to `problems`."""
    before, number = problems.count, 0
    for number, row in enumerate(_rows_of(path, label, problems), start=1):  # noqa: B007 - the last one counts
        yield row
    if not number and problems.count == before:
        add_empty(label, problems)


def _rows_of(path: Path, label: str, problems: Problems) -> Iterator[RawRow]:
    before = problems.count
    syntax = None
    with opened(path, label=label, problems=problems) as file:
        head, is_whole = head_of(file)
        syntax = syntax_of(head, name=path.name, is_whole=is_whole)
    if problems.count > before:
        return
    if syntax is None:
        problems.add(
            label,
            given=f"a file that ends with '{path.suffix}', and holds no JSON",
            rule=f"data files end with {', '.join(sorted(SUFFIXES))}, and may be compressed to "
            f"{' or '.join(COMPRESSED_SUFFIXES)}",
            remedy="rename or convert it",
            is_bad_row=False,
        )
        return
    # From the start again: what a file was told by is not kept.
    with opened(path, label=label, problems=problems) as file:
        yield from rows_in(file, syntax, label=label, problems=problems)


def add_empty(label: str, problems: Problems) -> None:
    """Note that a file has no rows."""
    problems.add(
        label,
        given="a file without rows",
        rule="a data file has at least one row",
        remedy="check what wrote it",
        is_bad_row=False,
    )


def rows_in(file: BinaryIO, syntax: Syntax, *, label: str, problems: Problems) -> Iterator[RawRow]:
    """The rows of decompressed content, one by one as far as the syntax allows."""
    return _READERS[syntax](file, label, problems)


def _lines_of(file: BinaryIO, label: str, problems: Problems) -> Iterator[tuple[str, bytes]]:
    """Source and bytes of each line; one that is too long for a row is told, and passed over."""
    # Only \n ends a line: JSON strings may hold the other line ends that splitlines() knows.
    for number in count(1):
        line = file.readline(LONGEST_LINE + 1)
        if not line:
            return
        source = f"{label}:{number}"
        if len(line) <= LONGEST_LINE:
            yield source, line.removeprefix(BOM_UTF8) if number == 1 else line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE)
        problems.add(
            source,
            given=f"a line of more than {LONGEST_LINE >> 20} MiB",
            rule="a row is one line, and no longer than that",
            remedy="check that the file is text, and has one row a line",
        )


def _whole(file: BinaryIO, label: str, problems: Problems) -> bytes:
    content = file.read(_LARGEST_WHOLE + 1)
    if len(content) <= _LARGEST_WHOLE:
        return content
    problems.add(
        label,
        given=f"a file of more than {_LARGEST_WHOLE >> 20} MiB",
        rule="JSON and YAML files are parsed whole",
        remedy="write one row a line and name the file .jsonl, or write Parquet",
        is_bad_row=False,
    )
    return b""


def _text_of(raw: bytes, label: str, problems: Problems) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _add_other_encoding(problems, f"{label}:{line}", raw[error.start], at=error.start)
        return ""


def _add_other_encoding(problems: Problems, source: str, byte: int, *, at: int) -> None:
    problems.add(
        source,
        given=f"the byte 0x{byte:02x} at byte {at} of the file",
        rule="text is UTF-8",
        remedy="save the file as UTF-8",
        is_bad_row=False,
    )


def _read_jsonl(file: BinaryIO, label: str, problems: Problems) -> Iterator[RawRow]:
    # Lines are decoded one by one, for a byte that is no UTF-8 breaks its own row and no other.
    for source, raw in _lines_of(file, label, problems):
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
            value = read_json(line)
        except ValueError as error:
            given = f"a line of {counted(len(line), 'character')}"
            _add_broken(
                problems, source, given=given, kind="a JSON line", why=error, is_bad_row=True
            )
            continue
        yield from _as_row(value, source, problems)


def _read_json(file: BinaryIO, label: str, problems: Problems) -> Iterator[RawRow]:
    text = _text_of(_whole(file, label, problems), label, problems)
    if not text.strip():
        return
    try:
        value = read_json(text)
    except ValueError as error:
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


def _read_csv(file: BinaryIO, label: str, problems: Problems) -> Iterator[RawRow]:
    csv.field_size_limit(LONGEST_LINE)
    lines = _csv_lines(file, label, problems)
    # Of a header in several lines the first ones.
    first = list(islice(lines, _HEADER_LINES))
    separator = separator_of("".join(first))
    # strict refuses what the module would otherwise guess, such as a quote that nothing closes.
    reader = csv.reader(chain(first, lines), delimiter=separator, strict=True)
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


def _csv_lines(file: BinaryIO, label: str, problems: Problems) -> Iterator[str]:
    """Lines with their ends, of which those inside quoted fields are the author's."""
    before = 0
    for source, raw in _lines_of(file, label, problems):
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            _add_other_encoding(problems, source, raw[error.start], at=before + error.start)
            return
        before += len(raw)
        # A carriage return ends a line, too.
        yield from io.StringIO(line, newline="")


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


def _read_parquet(file: BinaryIO, label: str, problems: Problems) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # What is compressed once more cannot be read from its end, where Parquet begins.
        is_plain = isinstance(getattr(file, "raw", None), io.FileIO)
        whole = b"" if is_plain else _whole(file, label, problems)
        source = pa.PythonFile(file, "r") if is_plain else pa.BufferReader(whole)
        with pq.ParquetFile(source) as table:
            for batch in table.iter_batches(_PARQUET_BATCH):
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


def _read_yaml(file: BinaryIO, label: str, problems: Problems) -> Iterator[RawRow]:
    text = _text_of(_whole(file, label, problems), label, problems)
    loader = _YamlLoader(text)
    try:
        require_shallow(yaml.parse(text, Loader=_YamlLoader))
        # The nodes, not what they stand for: only nodes know their lines.
        left = _LARGEST_WHOLE
        for node in _yaml_items(loader.get_single_node(), label, problems):
            # NB: before anything is made of it: an alias counts as often as it stands there.
            left -= unfolded_characters(node, max_nodes=_MOST_NODES, max_characters=left)
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
    if isinstance(error, UnfoldedSizeError):
        return str(error)
    # Scanner and parser name what they miss; whatever comes after them repeats tags and values.
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return str(error.problem)
    return f"it ends in a {type(error).__name__}"


def _yaml_items(root: yaml.Node | None, label: str, problems: Problems) -> list[yaml.Node]:
    """The nodes of the rows, whichever of the two shapes the file has."""
    if root is None:
        return []
    if isinstance(root, yaml.MappingNode):
        # A key may be a list, of which a dict knows nothing.
        words = ((key, value) for key, value in root.value if isinstance(key, yaml.ScalarNode))
        named = {key.value: value for key, value in words}
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


_READERS: Final[Mapping[Syntax, Callable[[BinaryIO, str, Problems], Iterator[RawRow]]]] = {
    "csv": _read_csv,
    "json": _read_json,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "yaml": _read_yaml,
}
