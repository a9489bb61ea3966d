"""`plan`: from a job to the stages that it will go through, each with its key.

What `tunesmith plan` prints, and the first argument of `advance`. Pure: sources are read before,
by `sources.fingerprints`, and no clock or environment is looked at.
"""

from collections.abc import Mapping
from typing import Final

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.planning.keys import stage_keys
from tunesmith_engine.planning.records import Plan, PlannedStage
from tunesmith_engine.stages.contracts import Environment, StageName

ENVIRONMENTS: Final[Mapping[StageName, Environment]] = {
    StageName.PREPARE: Environment.TRAINER,
    StageName.TRAIN: Environment.TRAINER,
    StageName.EVALUATE: Environment.TRAINER,
    StageName.COMPRESS: Environment.COMPRESSOR,
    StageName.VERIFY: Environment.SERVER,
    StageName.PUBLISH: Environment.TRAINER,
}

MODULES: Final[Mapping[Environment, str]] = {
    Environment.TRAINER: "tunesmith_trainer",
    Environment.COMPRESSOR: "tunesmith_trainer",
    Environment.SERVER: "tunesmith_serving",
}

# A manifest on disk has no generation; an API server counts from 1.
FIRST_GENERATION: Final = 1


def plan(
    job: FineTuneJob, *, fingerprints: Mapping[str, str], until: StageName = StageName.PUBLISH
) -> Plan:
    """The stages of `job` up to and with `until`.

    `fingerprints` stand for the content of the sources, by field path: `model`, `dataset.train`
    and, where given, `dataset.validation` and `evaluation.generalText`.
    """
    spec = job.spec.with_defaults()
    keys = stage_keys(spec, job=job.metadata.name, fingerprints=fingerprints)
    names = list(StageName)
    return Plan(
        job=job.metadata.name,
        generation=job.metadata.generation or FIRST_GENERATION,
        spec=spec,
        stages=tuple(_planned(name, key=keys[name]) for name in names[: names.index(until) + 1]),
    )


def _planned(name: StageName, *, key: str) -> PlannedStage:
    environment = ENVIRONMENTS[name]
    return PlannedStage(name=name, environment=environment, module=MODULES[environment], key=key)
