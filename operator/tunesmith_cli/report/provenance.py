"""Where the model comes from: settings, lineage, versions, files; enough to make it again."""

from collections.abc import Iterator
from dataclasses import dataclass

from tunesmith_cli.formats import size
from tunesmith_cli.report.evidence import Evidence
from tunesmith_cli.report.pieces import Table, in_words
from tunesmith_engine.planning.defaults import describe
from tunesmith_engine.stages.catalog import CATALOG

_ORIGINS = {"given": "the manifest", "default": "default", "open": "decided by the job"}
_SETTING_HEAD = ("setting", "value", "from")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Tables; None where nothing is known yet."""

    settings: Table | None
    training: Table | None
    lineage: Table | None
    versions: Table | None
    files: Table | None


def tell_provenance(evidence: Evidence) -> Provenance:
    """Everything that went into the model, and everything that came out."""
    return Provenance(
        settings=_settings(evidence),
        training=_pairs("Training as it was run", "value of", _training(evidence)),
        lineage=_pairs("Lineage", "what", _lineage(evidence)),
        versions=_pairs("Libraries, by the stage that used them", "library", _versions(evidence)),
        files=_files(evidence),
    )


def _settings(evidence: Evidence) -> Table | None:
    """The manifest with its defaults, and the rules by which stages decide what it leaves open."""
    described = describe(evidence.job.spec) if evidence.job else ()
    decided = evidence.status.resolved
    rows = [
        (each.path, decided.get(each.path, each.value), _ORIGINS[each.origin]) for each in described
    ]
    return Table("Settings that were asked for", _SETTING_HEAD, rows) if rows else None


def _training(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for name, value in evidence.train.resolved.items():
        yield in_words(name), value
    if evidence.train.trainable_parameters is not None:
        yield "trained parameters", f"{evidence.train.trainable_parameters:,}"


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
    for name in CATALOG.names:
        result = evidence.results.get(name)
        for library, version in sorted(result.versions.items()) if result else ():
            yield f"{name}: {library}", version


def _files(evidence: Evidence) -> Table | None:
    artifacts = [
        (stage, each)
        for stage in CATALOG.names
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
