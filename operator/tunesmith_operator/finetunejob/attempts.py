"""The attempts that a job's status knows of, and the children under which each may run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_engine.planning.plan import Plan, PlannedStage
from tunesmith_engine.stages.contracts import StageName
from tunesmith_engine.stages.stage_rows import Compute
from tunesmith_operator.controller.child_cache import ChildRef
from tunesmith_operator.finetunejob.child_names import attempt_name, may_be_rayjob, rayjob_name
from tunesmith_operator.kube.batch_job import BATCH_JOB
from tunesmith_operator.kube.child_kind import ChildKind
from tunesmith_operator.kube.ray_job import RAY_JOB

# The kinds of children in which attempts run, by name.
CHILD_KINDS: Final[Mapping[str, ChildKind]] = {
    kind.resource.kind: kind for kind in (BATCH_JOB, RAY_JOB)
}


@dataclass(frozen=True, slots=True)
class StageAttempt:
    """The latest attempt of a planned stage, with its result's digest once it has succeeded."""

    stage: PlannedStage
    number: int
    result_digest: str | None
    children: tuple[ChildRef, ...]


def attempts_of(plan: Plan, status: FineTuneJobStatus | None) -> list[StageAttempt]:
    """The stages of the plan that have an attempt, in its order."""
    recorded = {(stage.name, stage.key): stage for stage in status.stages} if status else {}
    return [
        StageAttempt(
            stage,
            record.attempt,
            record.result_digest,
            possible_children(plan, stage.name, key=stage.key, number=record.attempt),
        )
        for stage in plan.stages
        if (record := recorded.get((stage.name, stage.key))) and record.attempt
    ]


def possible_children(
    plan: Plan, stage: StageName, *, key: str, number: int
) -> tuple[ChildRef, ...]:
    """Everything that may be the child of this attempt; one at the most is."""
    # A child stays what it was started as, and KubeRay may have come or gone since.
    job_name = attempt_name(plan.job, stage=stage, attempt=number, key=key)
    children = (ChildRef(BATCH_JOB.resource.kind, job_name),)
    if not may_run_in_rayjob(plan, stage):
        return children
    ray_name = rayjob_name(plan.job, stage=stage, attempt=number, key=key)
    return (*children, ChildRef(RAY_JOB.resource.kind, ray_name))


def may_run_in_rayjob(plan: Plan, stage: StageName) -> bool:
    """Whether a stage runs in a RayJob where KubeRay is installed and the volume allows it."""
    # A stage that the plan does not have was another release's: it may have been spread.
    rows = [planned.stage for planned in plan.stages if planned.name == stage]
    is_spread = all(row.compute is Compute.WORKERS for row in rows)
    has_workers = is_spread and plan.spec.resources.workers > 1
    return has_workers and may_be_rayjob(plan.job)
