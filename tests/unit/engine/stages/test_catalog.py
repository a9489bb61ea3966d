"""The catalogue holds only rows that a job can go through."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manifests import DEFAULT_STAGES, a_job
from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.status import Phase
from tunesmith_engine.planning.plan import NoSuchStage, plan
from tunesmith_engine.stages.catalog import (
    CATALOG,
    CROSSVAL,
    EVALUATE,
    PREPARE,
    REHEARSE,
    SEARCH,
    SYNTHESIZE,
    TRAIN,
)
from tunesmith_engine.stages.stage import Catalog, Published, Stage

ROOT = Path(__file__).parents[4]


def _spec(**fields: Any) -> FineTuneJobSpec:
    return FineTuneJob.model_validate(a_job(**fields)).spec


def _synthesis(**fields: Any) -> dict[str, Any]:
    return {"train": {"uri": "s3://rows/a.jsonl"}, "synthesis": fields}


SIDE = replace(EVALUATE, name="side", phase="Sidestepping", condition="Sidestepped")


def test_a_stage_is_put_before_the_one_named() -> None:
    *before, after = CATALOG.with_stage(SIDE, before="publish").names

    assert before == [*CATALOG.names[:-1], "side"]
    assert after == "publish"


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
        Catalog([PREPARE, SYNTHESIZE, REHEARSE, SEARCH, CROSSVAL, TRAIN, row])  # type: ignore[list-item]


def test_documents_that_publish_would_not_be_given_are_refused() -> None:
    row = replace(SIDE, published=(Published("report", "explanation.json"),))

    with pytest.raises(ValueError, match="publish does not read"):
        CATALOG.with_stage(row, before="compress")


def test_only_a_distributed_stage_has_the_accelerators_of_every_worker() -> None:
    spec = _spec(resources={"workers": 4, "gpusPerWorker": 2})
    resources = spec.resources

    held = {name: CATALOG[name].num_accelerators(spec) for name in DEFAULT_STAGES}

    assert held == {
        "prepare": 0, "train": 8, "evaluate": 1, "compress": 1, "verify": 1, "publish": 0,
    }  # fmt: skip
    assert TRAIN.num_workers(resources) == 4
    assert EVALUATE.num_workers(resources) == 1


def test_synthesis_holds_an_accelerator_only_where_a_model_runs_there() -> None:
    resources = {"gpusPerWorker": 1}
    endpoint = {"endpoint": {"url": "https://api.example.com/v1", "model": "large"}}

    of_base = _spec(resources=resources, dataset=_synthesis())
    of_endpoint = _spec(resources=resources, dataset=_synthesis(generator=endpoint))

    assert SYNTHESIZE.num_accelerators(of_base) == 1
    assert SYNTHESIZE.num_accelerators(of_endpoint) == 0


def test_the_secrets_of_a_stages_endpoints_are_given_to_no_other() -> None:
    endpoint = {"url": "https://api.example.com/v1", "model": "large", "secretRef": {"name": "api"}}
    model = {"uri": "hf://a/b", "secretRef": {"name": "hub"}}
    spec = _spec(model=model, dataset=_synthesis(generator={"endpoint": endpoint}))

    given = {stage.name: stage.secrets_for(spec) for stage in CATALOG}

    assert given.pop("synthesize") == ["api"]
    assert given.pop("prepare") == ["hub"]
    assert set(map(tuple, given.values())) == {()}


def test_every_stage_is_given_the_secrets_that_it_uses_and_no_others() -> None:
    def secret(name: str) -> dict[str, Any]:
        return {"secretRef": {"name": name}}

    task = {"name": "arc", "uri": "s3://tasks/arc", "task": "arc_local"}
    spec = _spec(
        model={"uri": "hf://a/b", **secret("hub")},
        dataset={"train": {"uri": "s3://a/b", **secret("rows")}},
        evaluation={
            "generalText": {"uri": "s3://a/c", **secret("text")},
            "suites": [{**task, **secret("tasks")}],
        },
        tracking={"wandb": secret("wandb")},
        workspace={"uri": "s3://work/a", **secret("work")},
        output={"model": "m", "uri": "s3://models", **secret("models")},
    )
    given = {stage.name: stage.secrets_for(spec) for stage in CATALOG}

    assert given["prepare"] == ["hub", "models", "rows", "tasks", "text", "wandb", "work"]
    assert given["train"] == given["search"] == given["crossval"] == ["text", "wandb", "work"]
    assert given["evaluate"] == ["tasks", "text", "work"]
    assert given["compress"] == ["text", "work"]
    assert given["publish"] == ["models", "work"]
    assert given["verify"] == given["explain"] == given["rehearse"] == ["work"]


def test_a_stage_that_does_not_apply_is_in_no_plan_and_cannot_be_asked_for() -> None:
    catalog = CATALOG.with_stage(replace(SIDE, applies=lambda _: False), before="compress")
    job = FineTuneJob.model_validate(a_job())

    assert [stage.name for stage in plan(job, fingerprints={}, catalog=catalog).stages] == list(
        DEFAULT_STAGES
    )
    with pytest.raises(NoSuchStage, match="does not go through side; name one of its stages"):
        plan(job, fingerprints={}, until="side", catalog=catalog)


@pytest.mark.parametrize("stage", tuple(CATALOG), ids=lambda stage: stage.name)
def test_the_function_of_a_row_is_there(stage: Stage) -> None:
    """It is imported only in an environment with its libraries, and there only when it runs."""
    module, _, function = stage.function.partition(":")
    root = ROOT / ("serving" if stage.package == "tunesmith_serving" else "trainer")
    source = (root / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")

    assert function in {
        node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("stage", tuple(CATALOG), ids=lambda stage: stage.name)
def test_a_row_that_resumes_is_of_a_stage_that_writes_checkpoints(stage: Stage) -> None:
    folder = stage.function.partition(":")[0].replace(".", "/").rpartition("/")[0]
    root = ROOT / ("serving" if stage.package == "tunesmith_serving" else "trainer")
    sources = (path.read_text(encoding="utf-8") for path in (root / folder).rglob("*.py"))

    assert stage.resumes == any("CHECKPOINTS" in source for source in sources)


def test_phases_and_conditions_of_rows_are_words_that_nothing_else_has() -> None:
    phases = [*Phase, *(stage.phase for stage in CATALOG)]
    conditions = [*ConditionType, *(stage.condition for stage in CATALOG)]

    assert len(set(phases)) == len(phases)
    assert len(set(conditions)) == len(conditions)
