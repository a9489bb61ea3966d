"""How a decision is carried out: when its status is written, and when to look again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from job_double import JobDouble
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase, Progress
from tunesmith_engine.lifecycle.advance import advance
from tunesmith_engine.lifecycle.observations import Decision, Observations, Start, Stop
from tunesmith_engine.lifecycle.rejections import report_forbidden
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_operator.finetunejob.step import (
    AGAIN_S,
    PROGRESS_S,
    RESYNC_S,
    STOPPING_S,
    Step,
    resync_s,
)

NOW = datetime(2026, 11, 26, tzinfo=UTC)
DOUBLE = JobDouble()


def first_decision() -> Decision:
    return advance(DOUBLE.plan, None, Observations(), now=NOW)


def running(*, told_s: float = 0, **update: Any) -> FineTuneJobStatus:
    """The status of a job whose first stage runs, and told of its progress so long ago."""
    told_at = NOW - timedelta(seconds=told_s)
    progress = Progress(stage="prepare", last_update_time=told_at)
    status = first_decision().status.model_copy(update={"progress": progress})
    return status.model_copy(update=update)


def a_step(before: FineTuneJobStatus | None, after: FineTuneJobStatus, **decided: Any) -> Step:
    return Step(DOUBLE.job, before, Decision(after, **decided), NOW)


def action(kind: type[Start | Stop] = Start, **fields: Any) -> Any:
    stage = DOUBLE.plan.stages[0]
    return kind(stage.name, stage.key, 1, **fields)


def test_news_of_progress_alone_is_held_back_until_it_is_worth_a_write() -> None:
    before = running(told_s=5)
    further = before.model_copy(update={"gpu_seconds": 7.0})
    later = replace(a_step(before, further), now=NOW + timedelta(seconds=10))

    assert a_step(before, further).hold_s == PROGRESS_S - 5
    assert not a_step(before, further).writes_status
    assert later.writes_status


def test_other_words_for_the_same_reasons_are_news_of_progress() -> None:
    before = running()
    first, *others = before.stages
    reworded = before.model_copy(
        update={"stages": [first.model_copy(update={"message": "else"}), *others]}
    )

    assert a_step(before, reworded).hold_s == PROGRESS_S


@pytest.mark.parametrize("change", [{"phase": TRAIN.phase}, {"observed_generation": 9}])
def test_everything_else_is_written_at_once(change: dict[str, Any]) -> None:
    step = a_step(running(), running(**change))

    assert (step.hold_s, step.writes_status) == (0, True)


def test_a_status_that_says_nothing_new_is_not_written() -> None:
    step = a_step(running(), running())

    assert (step.hold_s, step.writes_status) == (0, False)


def test_a_first_start_needs_no_confirmation_since_its_status_is_one() -> None:
    decision = first_decision()

    assert not Step(DOUBLE.job, None, decision, NOW).needs_confirmation


@pytest.mark.parametrize(
    ("actions", "is_needed"),
    [
        ((action(),), True),
        ((action(Stop, because="Superseded"),), True),
        ((action(Stop, because="Suspended"),), False),
        ((), False),
    ],
)
def test_what_would_do_harm_if_the_job_had_changed_is_confirmed_where_no_status_is_written(
    actions: tuple[Any, ...], *, is_needed: bool
) -> None:
    repeated = a_step(running(), running(), actions=actions)
    new = a_step(running(), running(phase=TRAIN.phase), actions=actions)

    assert repeated.needs_confirmation is is_needed
    assert not new.needs_confirmation


def test_what_was_refused_is_a_retry_until_something_else_happens() -> None:
    before = report_forbidden(running(), generation=1, message="no", now=NOW)
    first, *others = before.stages
    moved = [first.model_copy(update={"state": "Failed"}), *others]

    assert a_step(before, running(), actions=(action(),)).is_retry
    assert a_step(before, running(), actions=(action(),)).needs_confirmation
    assert not a_step(before, running(stages=moved)).is_retry
    assert not a_step(running(), running()).is_retry


def test_a_job_that_is_over_is_not_looked_at_again() -> None:
    over = running(phase=Phase.SUCCEEDED)

    assert a_step(over, over).requeue_after_s(has_created=False) is None


def test_the_first_reason_to_look_again_counts() -> None:
    before, uid = running(), DOUBLE.owner.uid
    stop = (action(Stop, because="Suspended"),)
    soon = NOW + timedelta(seconds=3)

    def after_s(step: Step, *, has_created: bool = False) -> float | None:
        return step.requeue_after_s(has_created=has_created)

    changed = a_step(before, running(phase=TRAIN.phase))
    assert after_s(a_step(before, before)) == resync_s(uid)
    assert after_s(a_step(before, before, actions=stop)) == STOPPING_S
    assert after_s(a_step(before, before, wake_at=soon)) == 3
    assert after_s(a_step(before, before, wake_at=NOW - timedelta(seconds=3))) == 0.1
    assert after_s(changed) == AGAIN_S
    assert after_s(changed, has_created=True) == resync_s(uid)
    assert after_s(a_step(before, running(gpu_seconds=7.0))) == PROGRESS_S


def test_jobs_are_looked_at_again_at_different_times() -> None:
    times = {resync_s(f"uid-{number}") for number in range(100)}

    assert len(times) > 50
    assert min(times) >= 0.8 * RESYNC_S
    assert max(times) <= 1.2 * RESYNC_S
