"""`plan`: from a job to the stages that it will go through, each with its key.

What `tunesmith plan` prints, and the first argument of `advance`. Pure: sources are read before,
by `sources.fingerprints`, and no clock or environment is looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.planning.keys import spec_digests, stage_keys
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_engine.stages.contracts import Environment, StageName
from tunesmith_engine.stages.stage import Catalog, Stage


class NoSuchStage(ValueError):  # noqa: N818 - the name says what is wrong
    """A stage was named that the job does not go through."""


# A manifest on disk has no generation; an API server counts from 1.
FIRST_GENERATION: Final = 1


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage of this job: its row of the catalogue, and the digest of all its outcome depends on.

    `key` is 64 hexadecimal digits. `spec_digest` is of the fields that the row names alone.
    """

    stage: Stage
    key: str
    spec_digest: str

    @property
    def name(self) -> StageName:
        """The name of the stage."""
        return self.stage.name

    @property
    def environment(self) -> Environment:
        """Where its process runs."""
        return self.stage.environment

    @property
    def short_key(self) -> str:
        """The part of the key that names folders and is shown to people."""
        return self.key[:16]


@dataclass(frozen=True, slots=True)
class Plan:
    """A job as it will be run: `stages` in order, ending with the last one asked for.

    `spec` has every default filled in that does not depend on the data; those that do stay None
    and are decided by the stage that sees the data. `is_whole` tells that no stage is left out;
    `weight` is that of all stages of the job, also of those.
    `retry_requested` is what somebody has written to have the job taken up again should it have
    failed; empty if nobody has.
    """

    job: str
    generation: int
    spec: FineTuneJobSpec
    stages: tuple[PlannedStage, ...]
    weight: float
    is_whole: bool = True
    retry_requested: str = ""

    def stage(self, name: StageName) -> PlannedStage:
        """The stage called `name`.

        Raises:
            KeyError: the plan ends before it, or the job has no such stage.
        """
        for planned in self.stages:
            if planned.name == name:
                return planned
        raise KeyError(f"the plan of {self.job} has no stage {name}")

    def stages_from(self, first: StageName) -> tuple[PlannedStage, ...]:
        """The stage called `first` and those after it.

        Raises:
            NoSuchStage: the plan has no such stage.
        """
        names = [planned.name for planned in self.stages]
        if first not in names:
            raise NoSuchStage(
                f"{self.job} does not go through {first}; name one of: {', '.join(names)}"
            )
        return self.stages[names.index(first) :]

    def read_by(self, reader: PlannedStage) -> tuple[PlannedStage, ...]:
        """The stages whose results `reader` is given: those that it reads and this job has."""
        return tuple(planned for planned in self.stages if planned.name in reader.stage.reads)


def plan(
    job: FineTuneJob,
    *,
    fingerprints: Mapping[str, str],
    until: StageName | None = None,
    catalog: Catalog = CATALOG,
) -> Plan:
    """The stages of `job` up to and with `until`, or all of them.

    `fingerprints` stand for the content of the sources, by field path: `model`, `dataset.train`
    and, where given, `dataset.validation` and `evaluation.generalText`.

    Raises:
        NoSuchStage: the job does not go through `until`.
    """
    spec = job.spec.with_defaults()
    stages = catalog.applying(spec)
    keys = stage_keys(spec, stages, job=job.metadata.name, fingerprints=fingerprints)
    names = [stage.name for stage in stages]
    if until is not None and until not in names:
        raise NoSuchStage(
            f"{job.metadata.name} does not go through {until}; "
            f"name one of its stages: {', '.join(names)}"
        )
    digests = spec_digests(job.spec, stages)
    end = len(names) if until is None else names.index(until) + 1
    return Plan(
        job=job.metadata.name,
        generation=job.metadata.generation or FIRST_GENERATION,
        spec=spec,
        stages=tuple(
            PlannedStage(stage, keys[stage.name], digests[stage.name]) for stage in stages[:end]
        ),
        weight=sum(stage.weight for stage in stages),
        is_whole=end == len(names),
        retry_requested=job.retry_requested,
    )
