"""A plan names the stages in order, where each runs, and ends where it was asked to."""

import pytest

from manifests import DEFAULT_STAGES, a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.planning.plan import plan
from tunesmith_engine.stages.catalog import (
    COMPRESS,
    EVALUATE,
    PREPARE,
    PUBLISH,
    TRAIN,
    VERIFY,
)
from tunesmith_engine.stages.contracts import Environment, StageName

FINGERPRINTS = {"model": "m", "dataset.train": "t"}
JOB = FineTuneJob.model_validate(a_job())


def test_stages_come_in_order_each_in_the_environment_that_has_its_libraries() -> None:
    made = plan(JOB, fingerprints=FINGERPRINTS)

    assert [(stage.name, stage.environment, stage.stage.package) for stage in made.stages] == [
        (PREPARE.name, Environment.TRAINER, "tunesmith_trainer"),
        (TRAIN.name, Environment.TRAINER, "tunesmith_trainer"),
        (EVALUATE.name, Environment.TRAINER, "tunesmith_trainer"),
        (COMPRESS.name, Environment.COMPRESSOR, "tunesmith_trainer"),
        (VERIFY.name, Environment.SERVER, "tunesmith_serving"),
        (PUBLISH.name, Environment.TRAINER, "tunesmith_trainer"),
    ]


@pytest.mark.parametrize("until", DEFAULT_STAGES)
def test_a_plan_up_to_a_stage_is_the_beginning_of_the_whole_plan(until: StageName) -> None:
    part = plan(JOB, fingerprints=FINGERPRINTS, until=until)

    assert part.stages[-1].name is until
    assert part.stages == plan(JOB, fingerprints=FINGERPRINTS).stages[: len(part.stages)]


def test_a_stage_beyond_the_end_is_named_in_the_error() -> None:
    part = plan(JOB, fingerprints=FINGERPRINTS, until=TRAIN.name)

    with pytest.raises(KeyError, match="no stage publish"):
        part.stage(PUBLISH.name)


def test_a_manifest_without_generation_counts_as_the_first() -> None:
    served = FineTuneJob.model_validate({**a_job(), "metadata": {"name": "a", "generation": 7}})

    assert plan(JOB, fingerprints=FINGERPRINTS).generation == 1
    assert plan(served, fingerprints=FINGERPRINTS).generation == 7


def test_the_spec_of_a_plan_has_its_defaults() -> None:
    assert plan(JOB, fingerprints=FINGERPRINTS).spec.training.epochs == 3
