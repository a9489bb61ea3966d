"""The catalogue holds only rows that a job can go through."""

from dataclasses import replace

import pytest

from manifests import a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.resources import Resources
from tunesmith_engine.planning.plan import NoSuchStage, plan
from tunesmith_engine.stages.catalog import CATALOG, EVALUATE, PREPARE, TRAIN, Catalog

SIDE = replace(EVALUATE, name="explain", phase="Explaining", condition="Explained")


def test_a_stage_is_put_before_the_one_named() -> None:
    names = CATALOG.with_stage(SIDE, before="compress").names

    assert names == (
        "prepare", "train", "evaluate", "explain", "compress", "verify", "publish",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (replace(SIDE, name="crossValidation"), "1 to 12 small letters"),
        (replace(SIDE, name="train"), "a name is new"),
        (replace(SIDE, reads=("prepare", "verify")), "which do not come before it"),
        (replace(SIDE, weight=0.0), "give more than 0"),
    ],
)
def test_a_row_that_no_job_could_go_through_is_refused(row: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Catalog([PREPARE, TRAIN, row])  # type: ignore[list-item]


def test_only_a_distributed_stage_has_the_accelerators_of_every_worker() -> None:
    resources = Resources(workers=4, gpus_per_worker=2)

    held = {stage.name: stage.num_accelerators(resources) for stage in CATALOG}

    assert held == {
        "prepare": 0, "train": 8, "evaluate": 1, "compress": 1, "verify": 1, "publish": 0,
    }  # fmt: skip
    assert TRAIN.num_workers(resources) == 4
    assert EVALUATE.num_workers(resources) == 1


def test_a_stage_that_does_not_apply_is_in_no_plan_and_cannot_be_asked_for() -> None:
    catalog = CATALOG.with_stage(replace(SIDE, applies=lambda _: False), before="compress")
    job = FineTuneJob.model_validate(a_job())

    assert [stage.name for stage in plan(job, fingerprints={}, catalog=catalog).stages] == list(
        CATALOG.names
    )
    with pytest.raises(NoSuchStage, match="does not go through explain; name one of its stages"):
        plan(job, fingerprints={}, until="explain", catalog=catalog)
