"""What is retried, how often, how soon, and what ends a job."""

from typing import Any

import pytest

from theatre import Theatre, a_failure, a_plan
from tunesmith_api.finetunejob.status import Phase, Progress
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.lifecycle.observations import Start
from tunesmith_engine.stages.catalog import EVALUATE, PREPARE, TRAIN


def training(**spec: Any) -> Theatre:
    theatre = Theatre(a_plan(**spec))
    theatre.play_up_to(TRAIN.name)
    return theatre


def fail_once(theatre: Theatre) -> float:
    """The running attempt is killed; the seconds until the next one starts."""
    theatre.end(exit_code=-9, cause=Reason.KILLED)
    decision = theatre.step()
    if decision.wake_at is None:
        return 0.0
    waited = (decision.wake_at - theatre.now).total_seconds()
    theatre.now = decision.wake_at
    theatre.step()
    return waited


def phase(theatre: Theatre) -> str:
    assert theatre.status is not None
    return theatre.status.phase


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        (Reason.DATASET_INVALID, {"bad_input": True}),
        (Reason.DATASET_INVALID, {"bad_input": True, "retryable": True}),
        (Reason.EVALUATION_GATE_FAILED, {}),
    ],
)
def test_bad_input_and_verdicts_are_final_at_once(reason: Reason, fields: dict[str, bool]) -> None:
    theatre = training()
    theatre.refuse(reason, message="mend it", **fields)

    decision = theatre.step()

    assert decision.actions == ()
    assert decision.wake_at is None
    assert phase(theatre) == Phase.FAILED
    for type_, status in (("Failed", "True"), ("Stalled", "True"), ("Ready", "False")):
        assert theatre.condition(type_).status == status
        assert theatre.condition(type_).reason == reason
        assert theatre.condition(type_).message == "mend it"
    assert theatre.condition("Reconciling").status == "False"
    assert theatre.condition("Trained").reason == reason
    assert theatre.stage(TRAIN.name).state == "Failed"


def test_a_refused_model_shows_its_numbers() -> None:
    number = EvaluationResult(suite="heldOut", split="tuned", metric="loss", value=2.0, n=3)
    theatre = Theatre(a_plan())
    theatre.play_up_to(EVALUATE.name)
    theatre.refuse(Reason.EVALUATION_GATE_FAILED, evaluation=[number])

    theatre.step()

    assert theatre.status is not None
    assert theatre.status.evaluation == [number]


def test_a_fault_of_the_machine_is_retried_until_the_limit_and_names_the_last_failure() -> None:
    theatre = training(backoffLimit=2)

    for _ in range(2):
        theatre.refuse(Reason.DISK_FULL, retryable=True)
        decision = theatre.step()
        assert decision.wake_at is not None
        theatre.now = decision.wake_at
        theatre.step()
    theatre.refuse(Reason.OUT_OF_MEMORY, retryable=True, message="no room")
    theatre.step()

    failed = theatre.condition("Failed")
    assert phase(theatre) == Phase.FAILED
    assert failed.reason == Reason.BACKOFF_LIMIT_EXCEEDED
    said = "train failed 3 times, at last with OutOfMemory: no room; see its log"
    assert failed.message == said
    assert theatre.stage(TRAIN.name).failures == 3
    assert theatre.started[-1].attempt == 3


def test_delays_double_up_to_a_minute() -> None:
    theatre = training(backoffLimit=9)

    waits = [fail_once(theatre) for _ in range(9)]

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_retry_does_not_start_before_its_time() -> None:
    theatre = training()
    theatre.end(exit_code=1)

    waiting = theatre.step()
    theatre.pass_time(0.5)
    still = theatre.step()
    theatre.pass_time(0.5)
    started = theatre.step()

    assert waiting.actions == still.actions == ()
    assert still.wake_at == waiting.wake_at
    assert [type(action) for action in started.actions] == [Start]


def test_a_clock_set_back_does_not_hold_up_a_retry() -> None:
    theatre = training()
    theatre.end(exit_code=1)
    theatre.step()
    theatre.pass_time(-3600)

    assert [type(action) for action in theatre.step().actions] == [Start]


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"exit_code": 1}, Reason.STAGE_CRASHED, "exit code 1"),
        ({"exit_code": -9, "cause": Reason.KILLED}, Reason.KILLED, "signal 9"),
        ({"cause": Reason.OUT_OF_MEMORY}, Reason.OUT_OF_MEMORY, "left no result"),
    ],
)
def test_an_end_without_a_result_is_told_with_what_is_known(
    fields: dict[str, object], reason: Reason, words: str
) -> None:
    theatre = training()
    theatre.end(**fields)

    theatre.step()

    assert theatre.stage(TRAIN.name).reason == reason
    assert words in theatre.stage(TRAIN.name).message
    assert theatre.stage(TRAIN.name).failures == 1


def crash(theatre: Theatre, *, step: int | None = None, **fields: Any) -> None:
    """The running attempt crashes at this step, and the next one starts if there is one."""
    progress = Progress(stage="train", step=step, last_update_time=theatre.now)
    theatre.end(**{"exit_code": 1, "progress": progress, **fields})
    decision = theatre.step()
    theatre.now = decision.wake_at or theatre.now
    theatre.step()


def test_the_same_crash_at_the_same_step_is_not_tried_a_third_time() -> None:
    theatre = training(backoffLimit=9)

    for number in (1, 2):
        log = f"/home/logs/{number}"
        crash(theatre, step=7, termination_message="KeyError: 'x'", log=log)

    failed = theatre.condition("Failed")
    assert len(theatre.started) == 3  # prepare, and train twice
    assert phase(theatre) == Phase.FAILED
    assert failed.reason == Reason.STAGE_CRASHED
    assert failed.message == (
        "train crashed twice alike: KeyError: 'x' (exit code 1, step 7); see /home/logs/2"
    )


@pytest.mark.parametrize(
    "second",
    [
        {"step": 8, "termination_message": "KeyError: 'x'"},
        {"step": 7, "termination_message": "KeyError: 'y'"},
        {"step": 7, "termination_message": "KeyError: 'x'", "exit_code": -11},
        {"step": 7, "termination_message": "KeyError: 'x'", "cause": Reason.KILLED},
    ],
    ids=["further on", "other error", "other end", "killed"],
)
def test_another_crash_is_tried_again(second: dict[str, Any]) -> None:
    theatre = training(backoffLimit=2)

    crash(theatre, step=7, termination_message="KeyError: 'x'")
    crash(theatre, **second)

    assert phase(theatre) == TRAIN.phase
    assert len(theatre.running) == 1


def test_a_crash_that_told_its_error_twice_is_final_and_a_missing_source_is_not() -> None:
    crashed, missing = training(backoffLimit=9), training(backoffLimit=9)

    for theatre, reason in ((crashed, Reason.STAGE_CRASHED), (missing, Reason.SOURCE_UNREACHABLE)):
        for _ in range(2):
            (attempt,) = theatre.running
            told = a_failure(attempt, reason, retryable=True, message="KeyError: 'x'")
            crash(theatre, result=told)

    said = "train crashed twice alike: KeyError: 'x'; see its log"
    assert crashed.condition("Failed").message == said
    assert phase(missing) == TRAIN.phase


def test_where_the_log_is_survives_the_cutting_of_a_long_message() -> None:
    theatre = training(backoffLimit=0)
    theatre.end(exit_code=1, termination_message="x" * 1000, log="/home/logs/1")

    theatre.step()

    message = theatre.condition("Failed").message
    assert len(message) == 256
    assert message.endswith("…; see /home/logs/1")


def test_an_attempt_lost_with_its_runner_is_repeated_at_once_and_never_counted() -> None:
    theatre = training(backoffLimit=0)

    for number in range(2, 9):
        theatre.end(cause=Reason.INTERRUPTED)
        theatre.step()
        assert theatre.started[-1].attempt == number

    assert theatre.stage(TRAIN.name).failures == 0


def test_a_result_of_an_earlier_attempt_does_not_end_the_job() -> None:
    theatre = training()
    (attempt,) = theatre.running
    stale = a_failure(attempt, Reason.LOSS_DIVERGED).model_copy(update={"attempt": 99})
    theatre.end(result=stale)

    theatre.step()

    assert theatre.stage(TRAIN.name).reason == Reason.STAGE_CRASHED
    assert phase(theatre) == TRAIN.phase


def test_success_without_its_artifacts_is_a_failure() -> None:
    theatre = training()
    theatre.finish()
    theatre.finished = {
        key: result for key, result in theatre.finished.items() if result.stage != TRAIN.name
    }

    theatre.step()

    assert theatre.stage(TRAIN.name).failures == 1
    assert "artifacts are not there" in theatre.stage(TRAIN.name).message


def test_a_stage_whose_artifacts_vanish_is_run_again_before_what_builds_on_it() -> None:
    theatre = training()
    theatre.finished.clear()

    theatre.step()
    stopped = theatre.stopped[-1]
    theatre.end(exit_code=-15)
    theatre.step()

    assert stopped.stage == TRAIN.name
    assert theatre.started[-1] == Start(PREPARE.name, theatre.plan.stage(PREPARE.name).key, 2)
    assert theatre.stage(TRAIN.name).failures == 0


def test_a_long_message_is_cut_to_what_a_condition_takes() -> None:
    theatre = training()
    theatre.refuse("R" * 100, message="m" * 1000, warnings=["w" * 1000] * 3)

    theatre.step()

    assert len(theatre.condition("Failed").message) == 256
    assert len(theatre.condition("Failed").reason) == 64
    assert theatre.status is not None
    assert len(theatre.status.warnings) == 1


def test_a_failed_job_stays_as_it_is() -> None:
    theatre = training()
    theatre.refuse(Reason.LOSS_DIVERGED)
    theatre.step()
    before = theatre.status

    theatre.pass_time(1000)
    decision = theatre.step()

    assert decision.status == before
    assert decision.actions == ()


def test_only_the_last_64_attempts_are_listed() -> None:
    theatre = training()

    for _ in range(70):
        theatre.end(cause=Reason.INTERRUPTED)
        theatre.step()

    assert theatre.status is not None
    assert len(theatre.status.attempts) == 64
    assert theatre.status.attempts[-1].number == 71
