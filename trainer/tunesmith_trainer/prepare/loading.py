"""The user's files to clean rows, with everything that was left out counted.

`stage` calls it first: it needs no model. It reads, converts and cleans both sources with one list
of problems, so that a refusal names as many of them as it can.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.resolver import fetch_files
from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_engine.stages.digests import digest_file
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning.cleaner import HeldOut, clean
from tunesmith_trainer.data.cleaning.contamination import HeldOutGrams, grams_of
from tunesmith_trainer.data.cleaning.findings import Finding
from tunesmith_trainer.data.cleaning.row_keys import row_key
from tunesmith_trainer.data.cleaning.row_texts import compared_text, strings_in
from tunesmith_trainer.data.formats import detect_first_format, read_format
from tunesmith_trainer.data.highlights import with_highlights
from tunesmith_trainer.data.labels import label_columns, with_labels
from tunesmith_trainer.data.prepared import Split
from tunesmith_trainer.data.rationales import with_rationales
from tunesmith_trainer.data.readers import read_rows
from tunesmith_trainer.data.rows import Problems, RawRow, Row
from tunesmith_trainer.data.stored_rows import StoredRows


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read: what messages call it, its digest, and its size."""

    label: str
    digest: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """The clean rows of one source, how many there were, and what cleaning found in which."""

    uri: str
    files: tuple[SourceFile, ...]
    rows: StoredRows[Row]
    num_read: int
    num_joined_turns: int
    findings: list[Finding]


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
    def findings(self) -> list[Finding]:
        """What cleaning found in the rows of all sources."""
        return [finding for source in self.sources.values() for finding in source.findings]

    def near_duplicates(self, dataset: Dataset) -> dict[str, str] | None:
        """For each training row that is nearly the same as an earlier one that; None: not known."""
        if dataset.cleaning.near_duplicates.policy == "keep":
            return None
        return {
            found.row: found.of
            for found in self.sources["train"].findings
            if found.rule == "nearDuplicates" and found.of is not None
        }

    @property
    def num_joined_turns(self) -> int:
        """Turns that are part of the one before them, since both are of one speaker."""
        return sum(source.num_joined_turns for source in self.sources.values())


@dataclass(frozen=True, slots=True)
class RawSource:
    """A source as it was read: its files by label, and their rows."""

    uri: str
    files: Mapping[str, Path]
    rows: StoredRows[RawRow]


@dataclass(frozen=True, slots=True)
class RawData:
    """What `dataset` names, as it was read: its sources, and the rows of benchmarks."""

    sources: Mapping[Split, RawSource]
    benchmarks: StoredRows[RawRow]


@dataclass(frozen=True, slots=True)
class Folders:
    """Where sources are found: what file:// starts from, what was fetched, and credentials."""

    base: Path
    cache: Path
    secrets: Path


def load_data(
    request: StageRequest, *, problems: Problems, reporter: Reporter, split: str = "train"
) -> LoadedData:
    """Read what `spec.dataset` names; bad rows go to `problems`. `split` is what findings call it.

    Raises:
        StageError: a source cannot be fetched, or its rows break a rule.
    """
    dataset = request.spec.dataset
    folders = Folders(Path(request.base), Path(request.cache), Path(request.secrets))
    raw = read_raw(dataset, folders, problems=problems, reporter=reporter)
    form = format_of(raw, dataset)
    _refuse_other_objective(form, objective=request.spec.training.objective)
    return clean_data(raw, dataset, form=form, problems=problems, reporter=reporter, split=split)


def read_raw(
    dataset: Dataset, folders: Folders, *, problems: Problems, reporter: Reporter
) -> RawData:
    """The rows of all files, which nobody has understood yet.

    Raises:
        StageError: a source cannot be fetched, or a file is broken.
    """
    given: dict[Split, DataSource] = {"train": dataset.train}
    if dataset.validation is not None:
        given["validation"] = dataset.validation
    # All sources are fetched before any is parsed: a URI that names nothing is told at once.
    files = {name: _fetch(source, folders) for name, source in given.items()}
    benchmarks = [_fetch(source, folders) for source in dataset.cleaning.contamination.against]
    sources = {
        name: RawSource(
            uri=source.uri, files=files[name], rows=_read([files[name]], problems, reporter)
        )
        for name, source in given.items()
    }
    compared = _read(benchmarks, problems, reporter)
    # Before the format is guessed: a broken file may have lost its first row.
    problems.refuse()
    return RawData(sources, compared)


def format_of(raw: RawData, dataset: Dataset) -> str:
    """The format of the rows, as the job names it or as the first of them show it.

    Raises:
        BadInputError: they have the fields of no format, or of several.
    """
    if dataset.format != "auto":
        return dataset.format
    rows = raw.sources["train"].rows
    return detect_first_format(rows, columns=dataset.columns, max_bad_rows=dataset.max_bad_rows)


def clean_data(
    raw: RawData,
    dataset: Dataset,
    *,
    form: str,
    problems: Problems,
    reporter: Reporter,
    split: str = "train",
) -> LoadedData:
    """The rows as conversations or texts, cleaned; validation rows first, for they are compared.

    Raises:
        BadInputError: rows break a rule.
    """
    cleaning = partial(clean, cleaning=dataset.cleaning, problems=problems)
    understood = partial(
        _understood, dataset=dataset, form=form, problems=problems, reporter=reporter
    )
    validation = raw.sources.get("validation")
    given = understood(validation, columns={}) if validation else ()
    held_out, found = cleaning(given, split="validation", held_out=None)
    kept = cleaning(
        understood(raw.sources["train"], columns=label_columns(dataset)),
        split=split,
        held_out=_held_out(held_out, raw.benchmarks),
    )
    problems.refuse()
    sources: dict[Split, LoadedSource] = {"train": _loaded(raw.sources["train"], *kept)}
    if validation:
        sources["validation"] = _loaded(validation, held_out, found)
    return LoadedData(format=form, sources=sources, problems=problems)


def benchmark_grams(request: StageRequest, *, reporter: Reporter) -> HeldOutGrams | None:
    """N-grams of the rows of `contamination.against`; None where the job names none.

    Raises:
        StageError: a source cannot be fetched, or a file is broken.
    """
    asked = request.spec.dataset.cleaning.contamination
    if not asked.against:
        return None
    folders = Folders(Path(request.base), Path(request.cache), Path(request.secrets))
    # Whatever is wrong with their rows was told when the data was read.
    rows = _read([_fetch(source, folders) for source in asked.against], Problems(), reporter)
    texts = ["\n".join(strings_in(row.value)) for row in rows]
    return grams_of(texts, ngram=asked.ngram)


def _understood(
    source: RawSource,
    *,
    columns: Mapping[str, str],
    dataset: Dataset,
    form: str,
    problems: Problems,
    reporter: Reporter,
) -> Iterator[Row]:
    """The rows of a source, with the labels that `columns` name; held-out rows need none."""
    rows = read_format(source.rows, name=form, columns=dataset.columns, problems=problems)
    labelled = with_labels(rows, raw=source.rows, columns=columns, problems=problems)
    explained = with_rationales(
        labelled,
        raw=source.rows,
        column=dataset.rationale,
        problems=problems,
        is_required=source.uri == dataset.train.uri,
    )
    highlighted = with_highlights(
        explained,
        raw=source.rows,
        column=dataset.highlights,
        problems=problems,
        is_required=source.uri == dataset.train.uri,
    )
    for number, row in enumerate(highlighted, start=1):
        reporter.progress("cleaning the rows", step=number, total_steps=len(source.rows))
        yield row


def _read(
    files: Sequence[Mapping[str, Path]], problems: Problems, reporter: Reporter
) -> StoredRows[RawRow]:
    def rows() -> Iterator[RawRow]:
        number = 0
        for label, path in (each for some in files for each in some.items()):
            for row in read_rows(path, label=label, problems=problems):
                number += 1
                reporter.progress("reading the data", step=number)
                yield row

    return StoredRows.of(rows())


def _held_out(validation: StoredRows[Row], benchmarks: StoredRows[RawRow]) -> HeldOut:
    """Validation rows as they are compared, and all texts of the rows of benchmarks."""
    return HeldOut(
        texts=[
            *(compared_text(row) for row in validation),
            *("\n".join(strings_in(row.value)) for row in benchmarks),
        ],
        rows=[*(row.source for row in validation), *(row.source for row in benchmarks)],
        keys=frozenset(map(row_key, validation)),
    )


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


def _fetch(source: DataSource, folders: Folders) -> dict[str, Path]:
    """The files of a source by label: the path from the manifest's folder, or else the name."""
    base = folders.base
    try:
        paths = fetch_files(source, base=base, cache=folders.cache, secrets=folders.secrets)
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


def _loaded(source: RawSource, rows: StoredRows[Row], findings: list[Finding]) -> LoadedSource:
    return LoadedSource(
        uri=source.uri,
        files=tuple(
            SourceFile(label=label, digest=digest_file(path), num_bytes=path.stat().st_size)
            for label, path in source.files.items()
        ),
        rows=rows,
        num_read=len(source.rows),
        num_joined_turns=sum(row.num_joined for row in rows),
        findings=findings,
    )
