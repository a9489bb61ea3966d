"""What a data file holds, told by its bytes: whether it is compressed, and in which syntax.

`readers` asks before it parses. Names mislead: hubs serve JSON Lines as `.json`, downloads lose
their ends, and servers decompress on the way or do not. Only where the bytes do not tell does the
end of the name decide.
"""

import csv
import gzip
import io
import json
import zlib
from pathlib import PurePath
from typing import Final, Literal

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


def compression_of(raw: bytes) -> str | None:
    """What made the bytes smaller: gzip, Zstandard or nothing."""
    return next((name for magic, name in _COMPRESSIONS.items() if raw.startswith(magic)), None)


def decompressed(raw: bytes, *, label: str, problems: Problems) -> bytes | None:
    """The bytes themselves, or what gzip or Zstandard made smaller; None if it is damaged."""
    packed = compression_of(raw)
    try:
        if packed == "gzip":
            return gzip.decompress(raw)
        if packed == "Zstandard":
            import pyarrow as pa

            return bytes(pa.input_stream(pa.BufferReader(raw), compression="zstd").read())
    except (OSError, EOFError, zlib.error) as error:
        problems.add(
            label,
            given="damaged or cut off data",
            rule=f"this is not {packed} ({error})",
            remedy="fetch or compress it again",
            is_bad_row=False,
        )
        return None
    return raw


def syntax_of(content: bytes, *, name: str) -> Syntax | None:
    """The syntax of the decompressed content; None if neither it nor the file's name tells."""
    path = PurePath(name)
    if path.suffix.lower() in COMPRESSED_SUFFIXES:
        path = path.with_suffix("")
    named = SUFFIXES.get(path.suffix.lower())
    if content.startswith(_PARQUET):
        return "parquet"
    # YAML is left alone: JSON is YAML, and a list of it in brackets is read as such.
    if named in {"parquet", "yaml"}:
        return named
    text = content.decode("utf-8-sig", errors="replace").strip()
    return _json_syntax(text, named=named) if text[:1] in {"{", "["} else named


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
        is_list_of_rows = text[0] == "[" and not isinstance(next(iter(json.loads(text)), ""), str)
        return "json" if is_list_of_rows or named == "json" else "jsonl"
    if named == "json" or _is_json(text):
        return "json"
    return named


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    # RecursionError: brackets nested a thousand deep.
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def _num_columns(text: str, separator: str) -> int:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return len(next((row for row in reader if row and row != [""]), []))
    except csv.Error:
        return 0
