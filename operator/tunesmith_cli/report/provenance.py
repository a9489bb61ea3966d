"""Where the model comes from: settings, lineage, versions, files; enough to make it again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pydantic import BaseModel

from tunesmith_api.field_paths import records_in
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_cli.formats import percent, size
from tunesmith_cli.report.artifacts import PackingFacts
from tunesmith_cli.report.components import Table, table_of
from tunesmith_cli.report.job_data import JobData
from tunesmith_engine.planning.defaults import describe

_ORIGINS: Final[Mapping[str, str]] = {
    "given": "the manifest",
    "default": "default",
    "open": "decided by the job",
}


@dataclass(frozen=True)
class Provenance:
    """Everything that went into the model, and all that came out; None where nothing is known."""

    job: JobData

    @property
    def tables(self) -> list[Table]:
        """What is known, in the order of the page."""
        return list(filter(None, (self.lineage, self.settings, self.versions, self.files)))

    @cached_property
    def lineage(self) -> Table | None:
        """Where the model and the data come from, by digests and keys."""
        prepare, train, status = self.job.prepare, self.job.train, self.job.status
        spec = self.job.job.spec if self.job.job else None
        parameters = train.trainable_parameters
        rows = [
            ("base model", spec.model.uri if spec else None),
            ("training data", spec.dataset.train.uri if spec else None),
            ("digest of the base model", prepare.model_digest),
            ("continues the version", prepare.parent_digest),
            ("digest of the data", prepare.data_digest),
            ("trained parameters", None if parameters is None else f"{parameters:,}"),
            ("padding", _padding(train.packing)),
            *((f"key of {stage.name}", stage.key) for stage in status.stages),
            ("model version", status.model_version),
        ]
        known = [(name, value) for name, value in rows if value]
        return table_of("Lineage", ("what", "value"), known, numeric=())

    @cached_property
    def settings(self) -> Table | None:
        """The manifest with its defaults, what was decided, and the rules for what will be.

        In the order of the reference page. A value that the spec has no field for comes last.
        """
        resolved = dict(self.job.status.resolved)
        rows = {
            setting.path: (
                setting.path,
                resolved.pop(setting.path, setting.value),
                _ORIGINS[setting.origin],
            )
            for setting in (describe(self.job.job.spec) if self.job.job else ())
        }
        # What the manifest leaves out and has no default, such as maxSteps beside epochs.
        rows |= {path: (path, value, _ORIGINS["open"]) for path, value in resolved.items()}
        ordered = dict.fromkeys((*_field_paths(FineTuneJobSpec), *rows))
        return table_of(
            "Settings",
            ("setting", "value", "from"),
            [rows[path] for path in ordered if path in rows],
            numeric=(),
        )

    @cached_property
    def versions(self) -> Table | None:
        """What was installed where the stages ran, by `ENVIRONMENT/LIBRARY`."""
        versions = sorted(self.job.status.versions.items())
        rows = [(name.replace("/", ": ", 1), version) for name, version in versions]
        return table_of("Libraries, by their environment", ("library", "version"), rows, numeric=())

    @cached_property
    def files(self) -> Table | None:
        """Every artifact of every stage."""
        rows = [
            (f"{stage}: {artifact.name}", size(artifact.bytes), artifact.digest, artifact.uri)
            for stage, result in self.job.results.items()
            for artifact in result.artifacts
        ]
        head = ("what", "size", "digest", "where")
        return table_of("What the stages made", head, rows, numeric=(1,))


def _field_paths(record: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """`training`, `training.lora`, `training.lora.rank`: every field, as the pages list them."""
    for field in record.model_fields.values():
        path = f"{prefix}{field.alias}"
        # A record as well: one that is not given, as evaluation.generalText, is a setting itself.
        yield path
        for child, suffix in records_in(field.annotation):
            # A list of records is one value, which people see as JSON.
            if not suffix:
                yield from _field_paths(child, f"{path}.")


def _padding(facts: PackingFacts | None) -> str | None:
    """What of the computed tokens was padding, and how far packing them was proven."""
    if facts is None or facts.padding_share is None:
        return None
    share = f"{percent(facts.padding_share)} of the tokens computed"
    proof = facts.proof
    if facts.packing != "bfd" or facts.padding_share_unpacked is None or proof is None:
        return share
    return (
        f"{share}, {percent(facts.padding_share_unpacked)} without packing; on {proof.rows} rows "
        f"packing changed the loss by {proof.loss_difference:.1g} of itself and the gradient by "
        f"{proof.gradient_difference:.1g}"
    )
