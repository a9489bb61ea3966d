"""Where the model comes from: settings, lineage, versions, files; enough to make it again."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from tunesmith_cli.formats import size
from tunesmith_cli.report.evidence import Evidence
from tunesmith_cli.report.pieces import Table, shown
from tunesmith_engine.stages.contracts import StageName


@dataclass(frozen=True, slots=True)
class Provenance:
    """Tables; None where nothing is known yet."""

    settings: Table | None
    lineage: Table | None
    versions: Table | None
    files: Table | None


def tell_provenance(evidence: Evidence) -> Provenance:
    """Everything that went into the model, and everything that came out."""
    return Provenance(
        settings=_pairs("Settings that were used", "setting", _settings(evidence)),
        lineage=_pairs("Lineage", "what", _lineage(evidence)),
        versions=_pairs("Libraries, by the stage that used them", "library", _versions(evidence)),
        files=_files(evidence),
    )


def _settings(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The manifest with its defaults, overridden by what the stages decided."""
    given = dict(_flat_model(evidence.job.spec)) if evidence.job else {}
    yield from {**given, **evidence.train.resolved, **evidence.status.resolved}.items()


def _flat_model(record: BaseModel, *, path: str = "") -> Iterator[tuple[str, str]]:
    for name, field in type(record).model_fields.items():
        value, at = getattr(record, name), f"{path}{field.alias}"
        if isinstance(value, BaseModel):
            yield from _flat_model(value, path=f"{at}.")
        elif isinstance(value, list):
            for index, each in enumerate(value):
                yield from _flat_item(each, path=f"{at}[{index}]")
        elif value is not None and value != {}:
            yield at, shown(value)


def _flat_item(value: object, *, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        yield from _flat_model(value, path=f"{path}.")
    else:
        yield path, str(value)


def _lineage(evidence: Evidence) -> Iterator[tuple[str, str]]:
    if evidence.job:
        yield "base model", evidence.job.spec.model.uri
        yield "training data", evidence.job.spec.dataset.train.uri
    if evidence.prepare.model_digest:
        yield "digest of the base model", evidence.prepare.model_digest
    if evidence.prepare.data_digest:
        yield "digest of the data", evidence.prepare.data_digest
    for stage in evidence.status.stages:
        yield f"key of {stage.name}", stage.key
    if evidence.status.model_version:
        yield "model version", evidence.status.model_version


def _versions(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for name in StageName:
        result = evidence.results.get(name)
        for library, version in sorted(result.versions.items()) if result else ():
            yield f"{name}: {library}", version


def _files(evidence: Evidence) -> Table | None:
    artifacts = [
        (stage, each)
        for stage in StageName
        if stage in evidence.results
        for each in evidence.results[stage].artifacts
    ]
    rows = [
        (f"{stage}: {each.name}", size(each.bytes), each.digest, each.uri)
        for stage, each in artifacts
    ]
    head = ("what", "size", "digest", "where")
    return Table("What the stages made", head, rows, frozenset({1})) if rows else None


def _pairs(caption: str, name: str, pairs: Iterator[tuple[str, str]]) -> Table | None:
    rows = list(pairs)
    return Table(caption, (name, "value"), rows) if rows else None
