"""What a killed prepare does not do again: rows that were cleaned, and rows that were tokenized.

Only of large data, for what takes seconds is done again as fast as it is read back. A phase is a
whole folder among the checkpoints of the stage, so that a job's store has it, too; it is written
and read row by row. JSON, not pickle: who can write into a job's folder must not run code here.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from tunesmith_engine.stages.contracts import CHECKPOINTS
from tunesmith_trainer.data.cleaning.findings import Finding
from tunesmith_trainer.data.loss_mask import TokenRow
from tunesmith_trainer.data.prepared import RowRecord, Split
from tunesmith_trainer.data.rows import GIVEN, Highlight, Message, Origin, Problems, Row, ToolCall
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.prepare.loading import LoadedData, LoadedSource, SourceFile
from tunesmith_trainer.prepare.tokenization import TokenizedRow
from tunesmith_trainer.versions import library_versions

_log = logging.getLogger(__name__)

# NB: raise it whenever a phase could no longer be read; that of another release is done again.
_FORMAT: Final = 2
_PHASE: Final = "phase.json"
_CLEANED: Final = "cleaned"
_TOKENIZED: Final = "tokenized"
# In the order of their fields, as `_row` and the others read them back.
_NAMES: Final = {
    kind: tuple(each.name for each in fields(kind))
    for kind in (Row, Highlight, Message, ToolCall, Origin, SourceFile)
}
# Rows, from which on a phase takes longer than to keep it: about ten seconds on one core.
_WORTH_KEEPING: Final = 20_000

Item = TypeVar("Item")
TokenizedRows = dict[Split, StoredRows[TokenizedRow]]


class KeptPhases:
    """The phases of one prepare, below its output."""

    def __init__(self, output: Path) -> None:
        self._root = output / CHECKPOINTS

    def cleaned(self, load: Callable[[], LoadedData], *, problems: Problems) -> LoadedData:
        """The rows as an earlier attempt has cleaned them, or else as `load` does."""
        kept = self._read(_CLEANED)
        if kept is not None:
            problems.restore(kept["problems"])
            return self._loaded(kept, problems)
        loaded = load()
        sources = {split: _told(source) for split, source in loaded.sources.items()}
        self._keep(
            _CLEANED,
            {split: source.rows for split, source in loaded.sources.items()},
            {"form": loaded.format, "sources": sources, "problems": problems.state()},
        )
        return loaded

    def tokenized(
        self, tokenize: Callable[[], TokenizedRows], *, problems: Problems
    ) -> TokenizedRows:
        """The rows as an earlier attempt has tokenized them, or else as `tokenize` does."""
        kept = self._read(_TOKENIZED)
        if kept is not None:
            problems.restore(kept["problems"])
            return {split: self._rows(_TOKENIZED, split, _tokenized) for split in kept["numRows"]}
        rows = tokenize()
        self._keep(_TOKENIZED, rows, {"problems": problems.state()})
        return rows

    def drop(self) -> None:
        """Remove what is kept: the stage is done."""
        for name in (_TOKENIZED, _CLEANED):
            shutil.rmtree(self._root / name, ignore_errors=True)

    def _keep(
        self, name: str, rows: Mapping[Split, StoredRows[Item]], phase: dict[str, Any]
    ) -> None:
        counts = {split: len(of_split) for split, of_split in rows.items()}
        if sum(counts.values()) < _WORTH_KEEPING:
            return
        part, folder = self._root / f".{name}.part", self._root / name
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            for split, of_split in rows.items():
                _write(of_split, part / f"{split}.jsonl")
            header = {**_release(), "numRows": counts, **phase}
            (part / _PHASE).write_text(_ENCODER.encode(header), encoding="utf-8")
        except (OSError, TypeError) as error:
            # A full disk, or a value that only some file formats know: the stage goes on without.
            _log.warning("the rows are not kept for another attempt: %s", error)
            shutil.rmtree(part, ignore_errors=True)
            return
        # NB: a folder counts from the moment it has a name without a dot.
        part.rename(folder)

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self._root / name / _PHASE
        if not path.exists():
            return None
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if {key: kept.get(key) for key in _release()} != _release():
            shutil.rmtree(path.parent)
            return None
        _log.info("the rows that an earlier attempt has %s are taken", name)
        return kept

    def _rows(self, name: str, split: str, row: Callable[[Any], Item]) -> StoredRows[Item]:
        return StoredRows.of(_read_rows(self._root / name / f"{split}.jsonl", row))

    def _loaded(self, kept: Mapping[str, Any], problems: Problems) -> LoadedData:
        sources: dict[Split, LoadedSource] = {
            split: LoadedSource(
                uri=told["uri"],
                files=tuple(SourceFile(*file) for file in told["files"]),
                rows=self._rows(_CLEANED, split, _row),
                num_read=told["num_read"],
                num_joined_turns=told["num_joined_turns"],
                findings=[_finding(found) for found in told["findings"]],
            )
            for split, told in kept["sources"].items()
        }
        return LoadedData(format=kept["form"], sources=sources, problems=problems)


def _release() -> dict[str, Any]:
    return {"format": _FORMAT, "versions": library_versions("tunesmith")}


def _told(source: LoadedSource) -> dict[str, Any]:
    return {
        "uri": source.uri,
        "files": source.files,
        "num_read": source.num_read,
        "num_joined_turns": source.num_joined_turns,
        "findings": [asdict(found) for found in source.findings],
    }


def _values(record: Any) -> Any:
    """The values of a record in the order of its fields; tokens and text rows in short."""
    if isinstance(record, TokenizedRow):
        kept = record.record
        words = [kept.prompt, kept.reference, kept.rejected]
        return [record.row, record.tokens, words, record.rejected]
    if isinstance(record, TokenRow):
        return [record.ids, "".join("1" if trained else "0" for trained in record.trained)]
    if type(record) not in _NAMES:
        raise TypeError(f"{type(record).__name__} is nothing that JSON holds")
    return [getattr(record, name) for name in _NAMES[type(record)]]


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), default=_values)


def _write(rows: Iterable[Any], path: Path) -> None:
    with path.open("w", encoding="ascii") as file:
        file.writelines(f"{_ENCODER.encode(row)}\n" for row in rows)


def _read_rows(path: Path, row: Callable[[Any], Item]) -> Iterator[Item]:
    with path.open(encoding="ascii") as file:
        yield from (row(json.loads(line)) for line in file)


def _row(values: Any) -> Row:
    source, messages, text, rejected, num_prompt, num_joined, tools, labels, origin, *why = values
    rationale, highlights = why
    return Row(
        source,
        tuple(map(_message, messages)),
        text,
        tuple(map(_message, rejected)),
        num_prompt,
        num_joined,
        tuple(tools),
        labels,
        _origin(origin),
        rationale,
        tuple(Highlight(*values) for values in highlights),
    )


def _message(values: Any) -> Message:
    role, content, calls, *rest = values
    return Message(role, content, tuple(ToolCall(*call) for call in calls), *rest)


def _origin(values: Any) -> Origin:
    generator, parent, examples, digest = values
    return GIVEN if generator == "none" else Origin(generator, parent, tuple(examples), digest)


def _tokenized(values: Any) -> TokenizedRow:
    row, (prompt, reference, rejected) = _row(values[0]), values[2]
    record = RowRecord(
        source=row.source,
        messages=list(row.messages) if row.text is None else None,
        text=row.text,
        prompt=prompt,
        reference=reference,
        rejected=rejected,
        tools=row.tools,
        origin=row.origin,
        rationale=row.rationale or None,
        highlights=row.highlights,
    )
    return TokenizedRow(row, _tokens(values[1]), record, values[3] and _tokens(values[3]))


def _tokens(values: Any) -> TokenRow:
    ids, trained = values
    return TokenRow(ids=tuple(ids), trained=tuple(mark == "1" for mark in trained))


def _finding(told: Mapping[str, Any]) -> Finding:
    return Finding(**{**told, "kinds": tuple(told["kinds"])})
