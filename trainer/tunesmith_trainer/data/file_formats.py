"""What a data file holds, told by its bytes: whether it is compressed, and in which syntax.

`readers` asks before it parses, and reads what `opened` gives. Names mislead: hubs serve JSON Lines
as `.json`, downloads lose their ends, and servers decompress on the way or do not. Only where the
bytes do not tell does the end of the name decide.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO, Final, Literal, cast

from tunesmith_api.json_io import read_json
from tunesmith_trainer.data.rows import Problems

Syntax = Literal["csv", "json", "jsonl", "parquet", "yaml"]

SUFFIXES: Final[dict[str, Syntax]] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".tsv": "csv",
    ".yaml": "yaml",
    ".yml": "yaml",
}
COMPRESSED_SUFFIXES: Final = (".gz", ".zst")
# A comma first: of two that give as many columns, as in a header of one, it is the usual one.
SEPARATORS: Final = (",", ";", "\t")

# RFC 1952, RFC 8878 and the parquet format name their first bytes.
_COMPRESSIONS: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "Zstandard"}
_PARQUET: Final = b"PAR1"
_MAGIC_BYTES: Final = 4
_HEAD_BYTES: Final = 1 << 20
_BUFFER_BYTES: Final = 1 << 20


def compression_of(raw: bytes) -> str | None:
    """What made the bytes smaller: gzip, Zstandard or nothing."""
    return next((name for magic, name in _COMPRESSIONS.items() if raw.startswith(magic)), None)


@contextmanager
def opened(path: Path, *, label: str, problems: Problems) -> Iterator[BinaryIO]:
    """The bytes themselves, or what gzip or Zstandard made smaller, piece by piece.

    What is damaged goes to `problems`, whenever it is met, and ends the block.
    """
    with path.open("rb") as file:
        packed = compression_of(file.read(_MAGIC_BYTES))
        file.seek(0)
        try:
            yield _decompressing(file, packed)
        except (OSError, EOFError, zlib.error) as error:
            if packed is None:
                raise
            problems.add(
                label,
                given="damaged or cut off data",
                rule=f"this is not {packed} ({error})",
                remedy="fetch or compress it again",
                is_bad_row=False,
            )


def head_of(file: BinaryIO) -> tuple[bytes, bool]:
    """The beginning of a file by which its syntax is told, and whether that is all of it."""
    head = file.read(_HEAD_BYTES + 1)
    return head[:_HEAD_BYTES], len(head) <= _HEAD_BYTES


def syntax_of(head: bytes, *, name: str, is_whole: bool) -> Syntax | None:
    """The syntax of a file that begins so; None if neither that nor its name tells."""
    path = PurePath(name)
    if path.suffix.lower() in COMPRESSED_SUFFIXES:
        path = path.with_suffix("")
    named = SUFFIXES.get(path.suffix.lower())
    if head.startswith(_PARQUET):
        return "parquet"
    # YAML is left alone: JSON is YAML, and a list of it in brackets is read as such.
    if named in {"parquet", "yaml"}:
        return named
    text = head.decode("utf-8-sig", errors="replace").strip()
    if text[:1] not in {"{", "["}:
        return named
    return _json_syntax(text, named=named) if is_whole else _syntax_of_long(text, named=named)


def separator_of(text: str) -> str:
    """The separator that gives the header of a CSV file the most columns."""
    return max(SEPARATORS, key=lambda separator: _num_columns(text, separator))


def _json_syntax(text: str, *, named: Syntax | None) -> Syntax | None:
    """JSON Lines if the first line is a value by itself, JSON if the whole is."""
    first, _, rest = text.partition("\n")
    if _is_json(first):
        if rest:
            return "jsonl"
        # One line is both. A dialogue is a list of texts; a list of anything else holds rows.
        is_list_of_rows = text[0] == "[" and not isinstance(next(iter(read_json(text)), ""), str)
        return "json" if is_list_of_rows or named == "json" else "jsonl"
    if named == "json" or _is_json(text):
        return "json"
    return named


def _syntax_of_long(text: str, *, named: Syntax | None) -> Syntax | None:
    """As `_json_syntax`, by the first part of a text: what it lacks cannot be parsed."""
    first, line_end, _ = text.partition("\n")
    if line_end and _is_json(first):
        return "jsonl"
    # A list that spans lines; a single long line may be a list of rows, or the first row of many.
    return "json" if named == "json" or (line_end and text[0] == "[") else named


def _decompressing(file: BinaryIO, packed: str | None) -> BinaryIO:
    if packed == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if packed == "Zstandard":
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        return cast("BinaryIO", io.BufferedReader(stream, _BUFFER_BYTES))
    return file


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    # RecursionError: brackets nested a thousand deep.
    except ValueError:
        return False
    return True


def _num_columns(text: str, separator: str) -> int:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return len(next((row for row in reader if row and row != [""]), []))
    except csv.Error:
        return 0
