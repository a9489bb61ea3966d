"""The user's files to clean rows, with everything that was left out counted.

`stage` calls it first: it needs no model. It reads, converts and cleans both sources with one list
of problems, so that a refusal names as many of them as it can.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.resolver import fetch_files
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import digest_file
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning import without_duplicates, without_empty
from tunesmith_trainer.data.formats import detect_first_format, read_format
from tunesmith_trainer.data.labels import label_columns, with_labels
from tunesmith_trainer.data.prepared import Split
from tunesmith_trainer.data.readers import read_rows
from tunesmith_trainer.data.rows import Problems, RawRow, Row


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read: what messages call it, its digest, and its size."""

    label: str
    digest: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """The clean rows of one source, and how many were left out and why."""

    uri: str
    files: tuple[SourceFile, ...]
    rows: list[Row]
    num_read: int
    num_empty: int
    num_duplicates: int


@dataclass(frozen=True, slots=True)
class LoadedData:
    """All clean rows, by the source they come from; `validation` only if the job names one.

    `problems` holds the bad rows that were skipped; `tokenization` adds to them.
    """

    format: str
    sources: Mapping[Split, LoadedSource]
    problems: Problems

    @property
    def is_plain_text(self) -> bool:
        """Whether the rows are texts, which no chat template renders."""
        return self.format == "text"

    @property
    def num_read(self) -> int:
        """Rows of all files, before anything was left out."""
        return sum(source.num_read for source in self.sources.values())

    @property
    def num_joined_turns(self) -> int:
        """Turns that are part of the one before them, since both are of one speaker."""
        return sum(row.num_joined for source in self.sources.values() for row in source.rows)


@dataclass(frozen=True, slots=True)
class _RawSource:
    """A source as it was read: its files by label, and their rows."""

    uri: str
    files: Mapping[str, Path]
    rows: list[RawRow]


def load_data(request: StageRequest, *, problems: Problems) -> LoadedData:
    """Read what `spec.dataset` names; bad rows go to `problems`.

    Raises:
        StageError: a source cannot be fetched, or its rows break a rule.
    """
    dataset = request.spec.dataset
    given: dict[Split, DataSource] = {"train": dataset.train}
    if dataset.validation is not None:
        given["validation"] = dataset.validation
    # All sources are fetched before any is parsed: a URI that names nothing is told at once.
    files = {split: _fetch(source, request) for split, source in given.items()}
    raw = {
        split: _RawSource(
            uri=source.uri,
            files=files[split],
            rows=[
                row
                for label, path in files[split].items()
                for row in read_rows(path, label=label, problems=problems)
            ],
        )
        for split, source in given.items()
    }
    # Before the format is guessed: a broken file may have lost its first row.
    problems.refuse()
    name: str = dataset.format
    if name == "auto":
        name = detect_first_format(
            raw["train"].rows, columns=dataset.columns, max_bad_rows=dataset.max_bad_rows
        )
    _refuse_other_objective(name, objective=request.spec.training.objective)
    sources = {
        split: _cleaned(
            source,
            name=name,
            dataset=dataset,
            columns=label_columns(dataset) if split == "train" else {},
            problems=problems,
        )
        for split, source in raw.items()
    }
    problems.refuse()
    return LoadedData(format=name, sources=sources, problems=problems)


def _refuse_other_objective(name: str, *, objective: str) -> None:
    if name == "preference" and objective != "dpo":
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.objective: given {objective}, and the rows are preferences, which dpo "
            "learns from; set objective: dpo. To train on the chosen answers alone, set "
            "dataset.format: promptCompletion with columns: {completion: chosen}, or format: "
            "messages with columns: {messages: chosen} where they are lists of turns",
        )
    if name != "preference" and objective == "dpo":
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.objective: given dpo, and the rows have the format {name}; dpo learns from "
            "rows with the fields chosen and rejected: name them in dataset.columns, or set "
            "objective: sft",
        )


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
    # A pattern may match files of one name in several folders; "file:line" must tell them apart.
    unique = labels if len(set(labels)) == len(labels) else [path.as_posix() for path in paths]
    return dict(zip(unique, paths, strict=True))


def _cleaned(
    source: _RawSource,
    *,
    name: str,
    dataset: Dataset,
    columns: Mapping[str, str],
    problems: Problems,
) -> LoadedSource:
    read = read_format(source.rows, name=name, columns=dataset.columns, problems=problems)
    rows = with_labels(read, raw=source.rows, columns=columns, problems=problems)
    filled = without_empty(rows, policy=dataset.cleaning.empty_rows, problems=problems)
    removes = dataset.cleaning.exact_duplicates == "remove"
    unique = without_duplicates(filled) if removes else filled
    return LoadedSource(
        uri=source.uri,
        files=tuple(
            SourceFile(label=label, digest=digest_file(path), num_bytes=path.stat().st_size)
            for label, path in source.files.items()
        ),
        rows=unique,
        num_read=len(source.rows),
        num_empty=len(rows) - len(filled),
        num_duplicates=len(filled) - len(unique),
    )
