"""Attempts of stages as the operator makes them, for a job given by its fields."""

from typing import Any

from manifests import Manifest, a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.planning.plan import plan
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import Environment, StageRequest, StageResult
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.finetunejob.manifests import StageAttempt, batch_job_of
from tunesmith_operator.finetunejob.rayjob_manifest import rayjob_of
from tunesmith_operator.settings import Settings

SETTINGS = Settings(images={each: f"{each}:1" for each in Environment}, workspace_class="slow")
OWNER = JobRef(name="helpdesk", namespace="ns", uid="u")


def request_for(
    stage: str, *, facts: dict[str, Any] | None = None, attempt: int = 1, **spec: Any
) -> StageRequest:
    """The request of an attempt; `facts` are what prepare found out about the model."""
    job = FineTuneJob.model_validate(a_job(**spec))
    planned = plan(job, fingerprints={}).stage(stage)
    paths: Any = dict.fromkeys(
        ("output", "report", "result", "base", "cache", "secrets", "models"), "/x"
    )
    return StageRequest(
        job="helpdesk",
        stage=planned.name,
        key=planned.key,
        attempt=attempt,
        spec=job.spec,
        inputs={PREPARE.name: _prepared(facts, longest_row=None)} if facts else {},
        **paths,
    )


def attempt_for(
    stage: str,
    *,
    facts: dict[str, Any] | None = None,
    longest_row: int | None = None,
    owner: JobRef = OWNER,
    **spec: Any,
) -> Manifest:
    """The batch Job of an attempt.

    `facts` and `longest_row` are what prepare found out about the model and the rows.
    """
    planned = plan(FineTuneJob.model_validate(a_job(**spec)), fingerprints={}).stage(stage)
    attempt = StageAttempt(
        owner,
        planned,
        request_for(stage, facts=facts, **spec),
        account="stages",
        prepared=_prepared(facts, longest_row=longest_row) if facts else None,
    )
    return batch_job_of(attempt, settings=SETTINGS)


def _prepared(facts: dict[str, Any] | None, *, longest_row: int | None) -> StageResult:
    return StageResult(
        stage=PREPARE.name,
        key="k",
        attempt=1,
        outcome="Succeeded",
        reason="Succeeded",
        facts={"modelFacts": facts, "longestRow": longest_row},
    )


def rayjob_for(*, owner: JobRef = OWNER, on_one_node: bool = True, **spec: Any) -> Manifest:
    """The RayJob of an attempt of training."""
    planned = plan(FineTuneJob.model_validate(a_job(**spec)), fingerprints={}).stage(TRAIN.name)
    attempt = StageAttempt(owner, planned, request_for("train", **spec), account="stages")
    return rayjob_of(attempt, settings=SETTINGS, on_one_node=on_one_node)
