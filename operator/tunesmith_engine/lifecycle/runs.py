"""Where one run of a job ends and the next begins.

A run is one way from the first stage to Succeeded or Failed. It is bound to the keys of its
stages; a finished one is bound to the generation of the spec as well, so that nothing more happens
to it until someone changes the job, or has a failed one taken up again (`job_retry.py`).
`advance.py` begins runs by itself; `rerun` is for a person who runs the same job again, `pin_keys`
for an operator of another release.
"""

from collections.abc import Collection
from dataclasses import replace

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.job_retry import kept_keys, wants_retry
from tunesmith_engine.lifecycle.run_state import pending_stage
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.contracts import CONTRACT


def rerun(
    plan: Plan, status: FineTuneJobStatus | None, *, finished: Collection[str]
) -> FineTuneJobStatus:
    """The status to go on from when a person runs the job, perhaps again.

    An unfinished run of the same keys is continued; what it has done already counts as cached
    from here on, since an earlier call did it. So it does in a job that has succeeded, as long as
    every stage's key is in `finished`: when it began, how long it took and its attempts stay known.
    Otherwise a new run begins, as it does after Failed; what has a finished result is then found
    done, and the rest gets its retries back.
    """
    if status is None:
        return new_run(plan, FineTuneJobStatus())
    # A stage that the job no longer has would stay in the status, and its condition with it.
    has_more = plan.is_whole and len(status.stages) > len(plan.stages)
    is_done = status.phase == Phase.SUCCEEDED and not has_more
    is_done = is_done and all(stage.key in finished for stage in plan.stages)
    if not is_same_run(plan, status) or (status.is_finished and not is_done):
        return new_run(plan, status)
    cached = {"cached": True, "reason": str(Reason.CACHED)}
    stages = [
        stage.model_copy(update=cached) if stage.state == "Succeeded" else stage
        for stage in status.stages
    ]
    return status.model_copy(update={"stages": stages})


def is_same_run(plan: Plan, status: FineTuneJobStatus) -> bool:
    """Whether `status` is of the run that `plan` describes.

    Stages that only one of them has do not count: a job may first be run up to a stage, then whole.
    """
    if status.is_finished and status.observed_generation != plan.generation:
        return False
    keys = {stage.name: stage.key for stage in status.stages}
    return all(keys.get(planned.name, planned.key) == planned.key for planned in plan.stages)


def of_this_object(plan: Plan, status: FineTuneJobStatus | None) -> FineTuneJobStatus | None:
    """The status of a job as that of the object that there is now.

    One that was made anew from a backup counts its generations from 1 again; with the generation
    that the status has seen, a job that is over would begin a second time.
    """
    if status is None or status.observed_generation <= plan.generation:
        return status
    return status.model_copy(update={"observed_generation": plan.generation})


def pin_keys(plan: Plan, status: FineTuneJobStatus | None) -> Plan:
    """`plan` with the keys that a job in a cluster was started with: its inputs are fixed since.

    Another release gives other keys, and must neither repeat what is over nor start beside what
    runs. What is half done goes on only if stages still hand to each other what they did. When a
    failed job is taken up again, stages that read something else by now get new keys.
    """
    if status is None or status.start_time is None:
        return plan
    is_retried = wants_retry(plan, status)
    is_over = status.is_finished and status.observed_generation == plan.generation
    if status.contract != CONTRACT and (is_retried or not is_over):
        return plan
    keys = {stage.name: stage.key for stage in status.stages}
    if is_retried:
        keys = kept_keys(plan, status)
    stages = tuple(
        replace(planned, key=keys.get(planned.name, planned.key)) for planned in plan.stages
    )
    return replace(plan, stages=stages)


def new_run(plan: Plan, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """A status in which nothing has happened yet, save what must outlast a run.

    Conditions are kept so that their transition times stay true, digests so that a result which
    counted goes on to count, and what was used up because it was.
    """
    known = {(stage.name, stage.key): stage for stage in status.stages}
    stages = []
    for planned in plan.stages:
        stage = pending_stage(planned)
        before = known.get((planned.name, planned.key))
        if before is not None:
            # NB: numbers of attempts go on. A folder, or a Job's name, that is used twice would
            # show the result of the earlier run as that of this one.
            kept = {"attempt": before.attempt, "result_digest": before.result_digest}
            stage = stage.model_copy(update=kept)
        stages.append(stage)
    return FineTuneJobStatus(
        observed_generation=plan.generation,
        conditions=status.conditions,
        last_handled_retry_at=status.last_handled_retry_at,
        gpu_seconds=status.gpu_seconds,
        queued_seconds=status.queued_seconds,
        stages=stages,
    )
