"""What is retried, how often, how soon, and what ends a job."""

from typing import Any

import pytest

from simulation import Simulation, a_failure, a_plan
from tunesmith_api.conditions import MAX_MESSAGE
from tunesmith_api.finetunejob.status import Phase, Progress
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.lifecycle.observations import Start
from tunesmith_engine.stages.catalog import EVALUATE, PREPARE, TRAIN


def training(**spec: Any) -> Simulation:
    simulation = Simulation(a_plan(**spec))
    simulation.run_up_to(TRAIN.name)
    return simulation


def fail_once(simulation: Simulation) -> float:
    """The running attempt is killed; the seconds until the next one starts."""
    simulation.end(exit_code=-9, cause=Reason.KILLED)
    decision = simulation.step()
    if decision.wake_at is None:
        return 0.0
    waited = (decision.wake_at - simulation.now).total_seconds()
    simulation.now = decision.wake_at
    simulation.step()
    return waited


def phase(simulation: Simulation) -> str:
    assert simulation.status is not None
    return simulation.status.phase


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        (Reason.DATASET_INVALID, {"bad_input": True}),
        (Reason.DATASET_INVALID, {"bad_input": True, "retryable": True}),
        (Reason.EVALUATION_GATE_FAILED, {}),
    ],
)
def test_bad_input_and_verdicts_are_final_at_once(reason: Reason, fields: dict[str, bool]) -> None:
    simulation = training()
    simulation.refuse(reason, message="mend it", **fields)

    decision = simulation.step()

    assert decision.actions == ()
    assert decision.wake_at is None
    assert phase(simulation) == Phase.FAILED
    for type_, status in (("Failed", "True"), ("Stalled", "True"), ("Ready", "False")):
        assert simulation.condition(type_).status == status
        assert simulation.condition(type_).reason == reason
        assert simulation.condition(type_).message == "mend it"
    assert simulation.condition("Reconciling").status == "False"
    assert simulation.condition("Trained").reason == reason
    assert simulation.stage(TRAIN.name).state == "Failed"


def test_a_refused_model_shows_its_numbers() -> None:
    number = EvaluationResult(suite="heldOut", split="tuned", metric="loss", value=2.0, n=3)
    simulation = Simulation(a_plan())
    simulation.run_up_to(EVALUATE.name)
    simulation.refuse(Reason.EVALUATION_GATE_FAILED, evaluation=[number])

    simulation.step()

    assert simulation.status is not None
    assert simulation.status.evaluation == [number]


def test_a_fault_of_the_machine_is_retried_until_the_limit_and_names_the_last_failure() -> None:
    simulation = training(backoffLimit=2)

    for _ in range(2):
        simulation.refuse(Reason.DISK_FULL, retryable=True)
        decision = simulation.step()
        assert decision.wake_at is not None
        simulation.now = decision.wake_at
        simulation.step()
    simulation.refuse(Reason.OUT_OF_MEMORY, retryable=True, message="no room")
    simulation.step()

    failed = simulation.condition("Failed")
    assert phase(simulation) == Phase.FAILED
    assert failed.reason == Reason.BACKOFF_LIMIT_EXCEEDED
    said = "train failed 3 times, at last with OutOfMemory: no room; see its log"
    assert failed.message == said
    assert simulation.stage(TRAIN.name).failures == 3
    assert simulation.started[-1].attempt == 3


def test_delays_double_up_to_a_minute() -> None:
    simulation = training(backoffLimit=9)

    waits = [fail_once(simulation) for _ in range(9)]

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_retry_does_not_start_before_its_time() -> None:
    simulation = training()
    simulation.end(exit_code=1)

    waiting = simulation.step()
    simulation.pass_time(0.5)
    still = simulation.step()
    simulation.pass_time(0.5)
    started = simulation.step()

    assert waiting.actions == still.actions == ()
    assert still.wake_at == waiting.wake_at
    assert [type(action) for action in started.actions] == [Start]


def test_a_clock_set_back_does_not_hold_up_a_retry() -> None:
    simulation = training()
    simulation.end(exit_code=1)
    simulation.step()
    simulation.pass_time(-3600)

    assert [type(action) for action in simulation.step().actions] == [Start]


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
    simulation = training()
    simulation.end(**fields)

    simulation.step()

    assert simulation.stage(TRAIN.name).reason == reason
    assert words in simulation.stage(TRAIN.name).message
    assert simulation.stage(TRAIN.name).failures == 1


def crash(simulation: Simulation, *, step: int | None = None, **fields: Any) -> None:
    """The running attempt crashes at this step, and the next one starts if there is one."""
    progress = Progress(stage="train", step=step, last_update_time=simulation.now)
    simulation.end(**{"exit_code": 1, "progress": progress, **fields})
    decision = simulation.step()
    simulation.now = decision.wake_at or simulation.now
    simulation.step()


def test_the_same_crash_at_the_same_step_is_not_tried_a_third_time() -> None:
    simulation = training(backoffLimit=9)

    for number in (1, 2):
        log = f"/home/logs/{number}"
        crash(simulation, step=7, termination_message="KeyError: 'x'", log=log)

    failed = simulation.condition("Failed")
    assert len(simulation.started) == 3  # prepare, and train twice
    assert phase(simulation) == Phase.FAILED
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
    simulation = training(backoffLimit=2)

    crash(simulation, step=7, termination_message="KeyError: 'x'")
    crash(simulation, **second)

    assert phase(simulation) == TRAIN.phase
    assert len(simulation.running) == 1


def test_a_crash_that_told_its_error_twice_is_final_and_a_missing_source_is_not() -> None:
    crashed, missing = training(backoffLimit=9), training(backoffLimit=9)

    for simulation, reason in (
        (crashed, Reason.STAGE_CRASHED),
        (missing, Reason.SOURCE_UNREACHABLE),
    ):
        for _ in range(2):
            (attempt,) = simulation.running
            told = a_failure(attempt, reason, retryable=True, message="KeyError: 'x'")
            crash(simulation, result=told)

    said = "train crashed twice alike: KeyError: 'x'; see its log"
    assert crashed.condition("Failed").message == said
    assert phase(missing) == TRAIN.phase


def test_where_the_log_is_survives_the_cutting_of_a_long_message() -> None:
    simulation = training(backoffLimit=0)
    simulation.end(exit_code=1, termination_message="x" * 2000, log="/home/logs/1")

    simulation.step()

    message = simulation.condition("Failed").message
    assert len(message) == MAX_MESSAGE
    assert message.endswith("…; see /home/logs/1")


def test_an_attempt_lost_with_its_runner_is_repeated_at_once_and_never_counted() -> None:
    simulation = training(backoffLimit=0)

    for number in range(2, 9):
        simulation.end(cause=Reason.INTERRUPTED)
        simulation.step()
        assert simulation.started[-1].attempt == number

    assert simulation.stage(TRAIN.name).failures == 0


def test_a_result_of_an_earlier_attempt_does_not_end_the_job() -> None:
    simulation = training()
    (attempt,) = simulation.running
    stale = a_failure(attempt, Reason.LOSS_DIVERGED).model_copy(update={"attempt": 99})
    simulation.end(result=stale)

    simulation.step()

    assert simulation.stage(TRAIN.name).reason == Reason.STAGE_CRASHED
    assert phase(simulation) == TRAIN.phase


def test_success_without_its_artifacts_is_a_failure() -> None:
    simulation = training()
    simulation.finish()
    simulation.finished = {
        key: result for key, result in simulation.finished.items() if result.stage != TRAIN.name
    }

    simulation.step()

    assert simulation.stage(TRAIN.name).failures == 1
    assert "artifacts are not there" in simulation.stage(TRAIN.name).message


def test_a_stage_whose_artifacts_vanish_is_run_again_before_what_builds_on_it() -> None:
    simulation = training()
    simulation.finished.clear()

    simulation.step()
    stopped = simulation.stopped[-1]
    simulation.end(exit_code=-15)
    simulation.step()

    assert stopped.stage == TRAIN.name
    assert simulation.started[-1] == Start(PREPARE.name, simulation.plan.stage(PREPARE.name).key, 2)
    assert simulation.stage(TRAIN.name).failures == 0


def test_a_long_message_is_cut_to_what_a_condition_takes() -> None:
    simulation = training()
    simulation.refuse("R" * 100, message="m" * 2000, warnings=["w" * 2000] * 3)

    simulation.step()

    assert len(simulation.condition("Failed").message) == MAX_MESSAGE
    assert len(simulation.condition("Failed").reason) == 64
    assert simulation.status is not None
    assert len(simulation.status.warnings) == 1


def test_a_message_is_cut_at_the_end_of_a_problem_and_not_in_the_middle_of_its_remedy() -> None:
    problems = [f"rows.jsonl:{n}: given {'x' * 200}; a rule; leave {n} out" for n in range(1, 9)]

    message = truncate_message("\n".join(problems))

    assert message == "\n".join(problems[:4]) + "…"


def test_a_failed_job_stays_as_it_is() -> None:
    simulation = training()
    simulation.refuse(Reason.LOSS_DIVERGED)
    simulation.step()
    before = simulation.status

    simulation.pass_time(1000)
    decision = simulation.step()

    assert decision.status == before
    assert decision.actions == ()


def test_only_the_last_64_attempts_are_listed() -> None:
    simulation = training()

    for _ in range(70):
        simulation.end(cause=Reason.INTERRUPTED)
        simulation.step()

    assert simulation.status is not None
    assert len(simulation.status.attempts) == 64
    assert simulation.status.attempts[-1].number == 71
