"""Where one life of a job ends and the next begins.

A life is one way from the first stage to Succeeded or Failed. It is bound to the keys of its
stages; a finished one is bound to the generation of the spec as well, so that nothing more happens
to it until someone changes the job. `begin` is for a person who runs the same job again.
"""

from dataclasses import replace

from tunesmith_api.finetunejob.status import FineTuneJobStatus, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.planning.plan import Plan, PlannedStage
from tunesmith_engine.stages.contracts import CONTRACT


def begin(plan: Plan, status: FineTuneJobStatus | None) -> FineTuneJobStatus:
    """The status to go on from when a person runs the job, perhaps again.

    An unfinished life of the same keys is continued; what it has done already counts as cached
    from here on, since an earlier run did it. Otherwise a new life begins, as it does after
    Succeeded and Failed; what has a finished result is then found done, and the rest gets its
    retries back.
    """
    if status is None:
        return new_life(plan, FineTuneJobStatus())
    if status.is_finished or not continues(plan, status):
        return new_life(plan, status)
    stages = [_as_cached(stage) for stage in status.stages]
    return status.model_copy(update={"stages": stages})


def continues(plan: Plan, status: FineTuneJobStatus) -> bool:
    """Whether `status` tells of the life that `plan` describes.

    Stages that only one of them has do not count: a job may first be run up to a stage, then whole.
    """
    if status.is_finished and status.observed_generation != plan.generation:
        return False
    known = {stage.name: stage.key for stage in status.stages}
    return all(known.get(stage.name, stage.key) == stage.key for stage in plan.stages)


def as_started(plan: Plan, status: FineTuneJobStatus | None) -> Plan:
    """`plan` with the keys that a job in a cluster was started with: its inputs are fixed since.

    Another release gives other keys, and must neither repeat what is over nor start beside what
    runs. What is half done goes on only if stages still hand to each other what they did.
    """
    if status is None or status.start_time is None:
        return plan
    is_over = status.is_finished and status.observed_generation == plan.generation
    if status.contract != CONTRACT and not is_over:
        return plan
    keys = {stage.name: stage.key for stage in status.stages}
    stages = tuple(replace(each, key=keys.get(each.name, each.key)) for each in plan.stages)
    return replace(plan, stages=stages)


def new_life(plan: Plan, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """A status in which nothing has happened, save that numbers of attempts are never used twice.

    Conditions are kept so that their transition times stay true, digests so that a result which
    counted goes on to count, and what was used up because it was.
    """
    known = {(stage.name, stage.key): stage for stage in status.stages}
    return FineTuneJobStatus(
        observed_generation=plan.generation,
        conditions=status.conditions,
        gpu_seconds=status.gpu_seconds,
        queued_seconds=status.queued_seconds,
        stages=[_begun_again(known.get((stage.name, stage.key)), stage) for stage in plan.stages],
    )


def _begun_again(before: StageStatus | None, planned: PlannedStage) -> StageStatus:
    return StageStatus(
        name=planned.name,
        key=planned.key,
        attempt=before.attempt if before else 0,
        result_digest=before.result_digest if before else None,
        reason=Reason.PENDING,
    )


def _as_cached(stage: StageStatus) -> StageStatus:
    if stage.state != "Succeeded":
        return stage
    return stage.model_copy(update={"cached": True, "reason": str(Reason.CACHED)})
