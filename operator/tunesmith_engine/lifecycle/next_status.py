"""From the chosen course to the status that is stored: the last step of `advance`."""

from datetime import datetime

from tunesmith_api.finetunejob.status import FINAL_PHASES, FineTuneJobStatus, Phase, Progress
from tunesmith_engine.lifecycle.accounting import added, without_counts
from tunesmith_engine.lifecycle.conditions import job_conditions, merged, stage_conditions
from tunesmith_engine.lifecycle.ledger import is_waiting
from tunesmith_engine.lifecycle.progress import progress_of
from tunesmith_engine.lifecycle.stage_results import findings_of
from tunesmith_engine.lifecycle.stage_states import finished_result
from tunesmith_engine.lifecycle.transitions import Course, Moment
from tunesmith_engine.lifecycle.wording import clipped
from tunesmith_engine.stages.contracts import CONTRACT, StageResult


def compose(
    moment: Moment, course: Course, *, before: FineTuneJobStatus, going_since: datetime
) -> FineTuneJobStatus:
    """The status after `course`; `before` is the one it follows, and stays if only time passed."""
    after = _composed(moment, course, before=before, going_since=going_since)
    return before if without_counts(after) == without_counts(before) else after


def _composed(
    moment: Moment, course: Course, *, before: FineTuneJobStatus, going_since: datetime
) -> FineTuneJobStatus:
    used = added(before, course.ledger.attempts)
    findings = findings_of(moment.plan, _results(moment, course))
    is_going = course.phase != Phase.SUSPENDED and course.phase not in FINAL_PHASES
    is_running = any(stage.is_under_way for stage in course.ledger.stages)
    return FineTuneJobStatus(
        observed_generation=moment.plan.generation,
        contract=CONTRACT,
        phase=course.phase,
        conditions=merged(
            [
                *stage_conditions(moment.plan, course.ledger.stages, now=moment.now),
                *job_conditions(
                    course.phase,
                    is_at_rest=not is_going and not is_running,
                    reason=course.reason,
                    message=course.message,
                    now=moment.now,
                ),
            ],
            before=before.conditions,
            generation=moment.plan.generation,
        ),
        start_time=going_since if is_going else _start_time(moment, course, before),
        completion_time=moment.now if course.phase in FINAL_PHASES else None,
        progress=_progress(moment, course, before),
        stages=list(course.ledger.stages),
        attempts=list(course.ledger.attempts),
        gpu_seconds=used["gpu_seconds"],
        queued_seconds=used["queued_seconds"],
        score=findings.score,
        artifacts=findings.artifacts,
        evaluation=findings.evaluation,
        warnings=findings.warnings,
        resolved=findings.resolved,
        versions=findings.versions,
        model_version=findings.model_version,
    )


def _results(moment: Moment, course: Course) -> list[StageResult]:
    results = [finished_result(planned, moment.seen) for planned in moment.plan.stages]
    failure = course.ledger.failure
    refused = failure.result if failure else None
    return [each for each in (*results, refused) if each is not None]


def _start_time(moment: Moment, course: Course, before: FineTuneJobStatus) -> datetime | None:
    """A job held back before it began has no start."""
    has_begun = course.phase in FINAL_PHASES or course.ledger.current is None
    return before.start_time or (moment.now if has_begun else None)


def _progress(moment: Moment, course: Course, before: FineTuneJobStatus) -> Progress | None:
    stage = course.ledger.current
    if stage is not None and course.phase in {Phase.SUSPENDED, Phase.FAILED}:
        return before.progress
    seen = moment.seen.attempt_of(stage) if stage and stage.is_under_way else None
    is_told = stage is not None and seen is not None and seen.attempt == stage.attempt
    told = seen.progress if seen and is_told else None
    if told is not None and stage is not None and is_waiting(stage):
        # What the attempt said before it was put back is no news of how long it will take.
        told = told.model_copy(update={"eta_seconds": None, "message": clipped(course.message)})
    return progress_of(
        moment.plan,
        course.ledger,
        stage,
        told=told,
        message=course.message,
        before=before.progress,
        now=moment.now,
    )
