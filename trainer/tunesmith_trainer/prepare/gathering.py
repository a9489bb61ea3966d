"""The user's files to clean rows, with everything that was left out counted.

Reads, converts and cleans both sides of the data with one list of problems each, so that a refusal
names as many of them as it can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.finetunejob.dataset import Dataset, DataSource
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.resolver import fetch_files
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import digest_file
from tunesmith_trainer.data.cleaning import without_duplicates, without_empty
from tunesmith_trainer.data.formats import Row, detect_format, read_format
from tunesmith_trainer.data.prepared import Split
from tunesmith_trainer.data.problems import Problems
from tunesmith_trainer.data.readers import RawRow, read_rows


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read: what messages call it, its digest, and its size."""

    label: str
    digest: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Side:
    """The clean rows of one source, and how many were left out and why."""

    uri: str
    files: tuple[SourceFile, ...]
    rows: list[Row]
    num_read: int
    num_empty: int
    num_duplicates: int


@dataclass(frozen=True, slots=True)
class Gathered:
    """All clean rows, by the source they come from; `validation` only if the job names one."""

    format: str
    sides: Mapping[Split, Side]


@dataclass(frozen=True, slots=True)
class _Read:
    """A source as it was read: its files by label, and their rows."""

    uri: str
    files: Mapping[str, Path]
    raw: Sequence[RawRow]


def gather_rows(request: StageRequest) -> Gathered:
    """Read what `spec.dataset` names.

    Raises:
        StageError: a source cannot be fetched, or its rows break a rule.
    """
    dataset = request.spec.dataset
    sources: dict[Split, DataSource] = {"train": dataset.train}
    if dataset.validation is not None:
        sources["validation"] = dataset.validation
    files = {split: _fetch(source, request) for split, source in sources.items()}
    problems = Problems()
    raw = {
        split: [
            row
            for label, path in each.items()
            for row in read_rows(path, label=label, problems=problems)
        ]
        for split, each in files.items()
    }
    problems.refuse()
    name: str = dataset.format
    if name == "auto":
        name = detect_format(raw["train"][0], columns=dataset.columns)
    sides = {
        split: _side(
            _Read(uri=source.uri, files=files[split], raw=raw[split]),
            name=name,
            dataset=dataset,
            problems=problems,
        )
        for split, source in sources.items()
    }
    problems.refuse()
    return Gathered(format=name, sides=sides)


def _fetch(source: DataSource, request: StageRequest) -> dict[str, Path]:
    """The files of a source by label: the path from the manifest's folder, or else the name."""
    base = Path(request.base)
    try:
        paths = fetch_files(
            source, base=base, cache=Path(request.cache), secrets=Path(request.secrets)
        )
    except SourceError as error:
        raise as_stage_error(error) from error
    is_near = source.uri.startswith("file://")
    labels = [
        path.relative_to(base).as_posix() if is_near and path.is_relative_to(base) else path.name
        for path in paths
    ]
    unique = labels if len(set(labels)) == len(labels) else [path.as_posix() for path in paths]
    return dict(zip(unique, paths, strict=True))


def _side(read: _Read, *, name: str, dataset: Dataset, problems: Problems) -> Side:
    rows = read_format(read.raw, name=name, columns=dataset.columns, problems=problems)
    filled = without_empty(rows, policy=dataset.cleaning.empty_rows, problems=problems)
    removes = dataset.cleaning.exact_duplicates == "remove"
    unique = without_duplicates(filled) if removes else filled
    return Side(
        uri=read.uri,
        files=tuple(
            SourceFile(label=label, digest=digest_file(path), num_bytes=path.stat().st_size)
            for label, path in read.files.items()
        ),
        rows=unique,
        num_read=len(read.raw),
        num_empty=len(rows) - len(filled),
        num_duplicates=len(filled) - len(unique),
    )
