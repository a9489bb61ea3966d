"""From the chosen transition to the status that is stored: the last step of `advance`.

Conditions come from `conditions.py`, the fields that stages report from `stage_results.py`, the
totals of time from `accounting.py`.
"""

from tunesmith_api.finetunejob.status import (
    FINAL_PHASES,
    FineTuneJobStatus,
    Phase,
    Progress,
    StageStatus,
)
from tunesmith_engine.conditions import merge_conditions, truncate_message
from tunesmith_engine.lifecycle.accounting import usage_totals, without_usage
from tunesmith_engine.lifecycle.conditions import job_conditions, stage_conditions
from tunesmith_engine.lifecycle.run_state import Context, RunState, is_waiting
from tunesmith_engine.lifecycle.stage_results import merge_results
from tunesmith_engine.lifecycle.stage_states import finished_result
from tunesmith_engine.lifecycle.transitions import Transition
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.contracts import CONTRACT


def next_status(
    context: Context, transition: Transition, *, before: FineTuneJobStatus
) -> FineTuneJobStatus:
    """The status after `transition`; the very one before it where only time has passed."""
    plan, state, phase = context.plan, transition.state, transition.phase
    is_active = phase != Phase.SUSPENDED and phase not in FINAL_PHASES
    is_under_way = any(stage.is_under_way for stage in state.stages)
    # A job that was suspended before it began has no start.
    has_begun = phase in FINAL_PHASES or state.current is None
    results = [finished_result(planned, context.seen) for planned in plan.stages]
    # Last, so that its numbers count: the result that has failed the job.
    results.append(state.failure.result if state.failure else None)
    merged = merge_results(plan, [result for result in results if result is not None])
    used = usage_totals(before, state.attempts)
    conditions = [
        *stage_conditions(plan, state.stages, now=context.now),
        *job_conditions(
            phase,
            is_at_rest=not is_active and not is_under_way,
            reason=transition.reason,
            message=transition.message,
            now=context.now,
        ),
    ]
    after = FineTuneJobStatus(
        observed_generation=plan.generation,
        contract=CONTRACT,
        phase=phase,
        conditions=merge_conditions(
            conditions, before=before.conditions, generation=plan.generation
        ),
        start_time=context.active_since
        if is_active
        else before.start_time or (context.now if has_begun else None),
        completion_time=context.now if phase in FINAL_PHASES else None,
        progress=_progress(context, transition, before.progress),
        stages=list(state.stages),
        attempts=list(state.attempts),
        gpu_seconds=used["gpu_seconds"],
        cost=before.cost,
        queued_seconds=used["queued_seconds"],
        score=merged.score,
        artifacts=merged.artifacts,
        evaluation=merged.evaluation,
        warnings=merged.warnings,
        resolved=merged.resolved,
        versions=merged.versions,
        model_version=merged.model_version,
        last_handled_retry_at=before.last_handled_retry_at,
    )
    # NB: the old object where nothing is new: executors compare, and write no equal status.
    return before if without_usage(after) == without_usage(before) else after


def _progress(context: Context, transition: Transition, before: Progress | None) -> Progress | None:
    """How far the job is: what its running attempt reported last, with the percentage of all."""
    state, stage = transition.state, transition.state.current
    if stage is not None and transition.phase in {Phase.SUSPENDED, Phase.FAILED}:
        return before
    name = stage.name if stage else state.stages[-1].name
    reported = _reported_progress(context, transition, stage)
    percent = _percent(context.plan, state, stage, reported)
    if before is not None and before.stage == name and before.percent is not None:
        # A stage counts the steps of each of its tasks anew, and says nothing of them in between.
        percent = max(percent, before.percent)
    if reported is not None:
        return reported.model_copy(update={"stage": name, "percent": percent})
    message = truncate_message(transition.message)
    new = Progress(stage=name, percent=percent, message=message, last_update_time=context.now)
    if before is None:
        return new
    # With its old time if it says the same, so that looking often writes nothing.
    same = new.model_copy(update={"last_update_time": before.last_update_time})
    return same if same == before else new


def _reported_progress(
    context: Context, transition: Transition, stage: StageStatus | None
) -> Progress | None:
    if stage is None or not stage.is_under_way:
        return None
    attempt = context.seen.latest_attempt(stage)
    if attempt is None or attempt.attempt != stage.attempt or attempt.progress is None:
        return None
    if not is_waiting(stage):
        return attempt.progress
    # What the attempt reported before it was preempted is no news of how long it will take.
    update = {"eta_seconds": None, "message": truncate_message(transition.message)}
    return attempt.progress.model_copy(update=update)


def _percent(
    plan: Plan, state: RunState, stage: StageStatus | None, reported: Progress | None
) -> float:
    weights = {planned.name: planned.stage.weight for planned in plan.stages}
    done = sum(weights[known.name] for known in state.stages if known.state == "Succeeded")
    fraction = 0.0
    if reported is not None and reported.step is not None and reported.total_steps:
        # Clamped: a stage may report any numbers, and the schema takes 0 to 100.
        fraction = min(1.0, max(0.0, reported.step / reported.total_steps))
    part = weights[stage.name] * fraction if stage else 0.0
    return round(min(100.0, 100.0 * (done + part) / plan.weight), 1)
