"""The local executor by itself: what it sees, what it does, and that both may be repeated."""

import time
from collections.abc import Callable, Iterator

import pytest

from command import processes_of, wait_until
from fake_runs import Place
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Observations, ObservedAttempt, Start, Stop
from tunesmith_engine.local import processes
from tunesmith_engine.local.executor import LocalExecutor
from tunesmith_engine.local.home_folder import AttemptFolder, StageFolder
from tunesmith_engine.local.processes import ProcessRecord, read_record, write_record
from tunesmith_engine.stages import catalog
from tunesmith_engine.stages.contracts import StageName, StageRequest

PREPARE, TRAIN = catalog.PREPARE.name, catalog.TRAIN.name


@pytest.fixture
def executor(place: Place) -> Iterator[LocalExecutor]:
    executor = an_executor(place)
    yield executor
    executor.close()


def an_executor(place: Place) -> LocalExecutor:
    return LocalExecutor(
        place.plan(), home=place.home, environments=place.environments, base=place.base
    )


def start(place: Place, *, stage: StageName = PREPARE, attempt: int = 1) -> Start:
    return Start(stage, place.plan().stage(stage).key, attempt)


def folder_of(place: Place, *, stage: StageName = PREPARE) -> StageFolder:
    return place.home.stage("helpdesk", stage=stage, key=place.plan().stage(stage).key)


def an_open_attempt(place: Place, *, number: int = 1) -> AttemptFolder:
    """What a killed run leaves behind: an attempt that nobody saw end."""
    folder = folder_of(place).attempt(number)
    folder.path.mkdir(parents=True)
    write_record(folder, ProcessRecord())
    return folder


def observe_until(executor: LocalExecutor, is_met: Callable[[Observations], bool]) -> Observations:
    """The first observation that meets this."""
    deadline = time.monotonic() + 30
    while not is_met(seen := executor.observe()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return seen


def end_of(executor: LocalExecutor) -> ObservedAttempt:
    """The attempt that was started, once it has ended."""
    (attempt,) = observe_until(executor, lambda seen: not seen.running_attempts()).attempts
    return attempt


def has_daemon(place: Place) -> bool:
    return any(line.startswith("daemon ") for line in place.diary())


def test_a_job_that_never_ran_shows_nothing(executor: LocalExecutor) -> None:
    assert executor.observe() == Observations()
    assert executor.observe(stop_requested=True).stop_requested


def test_a_start_that_is_repeated_starts_one_process(place: Place, executor: LocalExecutor) -> None:
    place.wish(prepare=["hang"])

    for _ in range(2):
        executor.apply([start(place)])
    wait_until(lambda: has_daemon(place), what="the daemon", timeout_s=30)
    seen = executor.observe()

    assert place.started() == ["prepare"]
    assert [(each.attempt, each.is_running) for each in seen.attempts] == [(1, True)]
    assert seen.finished == {}


def test_an_attempt_that_has_ended_is_not_started_again_even_by_the_next_run(
    place: Place, executor: LocalExecutor
) -> None:
    executor.apply([start(place)])
    end_of(executor)

    later = an_executor(place)
    later.apply([start(place)])

    assert place.started() == ["prepare"]
    assert end_of(later).result is not None


def test_a_result_counts_when_its_process_has_ended_and_is_kept_for_later_runs(
    place: Place, executor: LocalExecutor
) -> None:
    executor.apply([start(place)])
    attempt = end_of(executor)
    finished = executor.observe().finished

    assert finished == {attempt.key: attempt.result}
    assert (attempt.exit_code, attempt.cause) == (0, None)
    assert folder_of(place).result.exists()
    assert an_executor(place).observe().finished == finished


def test_a_result_that_is_there_while_its_process_still_runs_does_not_count_yet(
    place: Place, executor: LocalExecutor
) -> None:
    executor.apply([start(place)])
    end_of(executor)
    kept = folder_of(place).result
    whole = kept.read_text()
    kept.unlink()
    place.wish(prepare=["succeed", "hang"])
    executor.apply([start(place, attempt=2)])
    wait_until(lambda: has_daemon(place), what="the daemon", timeout_s=30)
    second = whole.replace('"attempt": 1', '"attempt": 2')
    folder_of(place).attempt(2).result.write_text(second)

    running = executor.observe()
    executor.close()

    assert running.finished == {}
    assert list(executor.observe().finished) == [start(place).key]


def test_a_start_takes_back_the_result_that_no_longer_holds(
    place: Place, executor: LocalExecutor
) -> None:
    place.wish(prepare=["succeed", "vanish"])
    executor.apply([start(place)])
    end_of(executor)
    executor.observe()

    executor.apply([start(place, attempt=2)])
    observe_until(executor, lambda seen: not seen.running_attempts())

    assert executor.observe().finished == {}
    assert not folder_of(place).result.exists()


def test_a_crash_is_seen_with_its_exit_code_and_the_last_line_of_its_log(
    place: Place, executor: LocalExecutor
) -> None:
    place.wish(prepare=["unloadable"])

    executor.apply([start(place)])
    attempt = end_of(executor)

    assert (attempt.exit_code, attempt.cause, attempt.result) == (1, None, None)
    missing = "ModuleNotFoundError: No module named 'not' at importlib/"
    assert attempt.termination_message.startswith(missing)
    assert attempt.log.endswith("attempts/1/log.txt")


def test_a_failed_result_is_seen_and_is_no_finished_one(
    place: Place, executor: LocalExecutor
) -> None:
    place.wish(prepare=["verdict"])

    executor.apply([start(place)])
    attempt = end_of(executor)

    assert attempt.result is not None
    assert attempt.result.reason == Reason.EVALUATION_GATE_FAILED
    assert executor.observe().finished == {}


def test_a_stage_is_given_the_results_of_those_before_it(
    place: Place, executor: LocalExecutor
) -> None:
    executor.apply([start(place)])
    end_of(executor)

    executor.apply([start(place, stage=TRAIN)])
    observe_until(executor, lambda seen: len(seen.finished) == 2)

    path = folder_of(place, stage=TRAIN).attempt(1).request
    request = StageRequest.model_validate_json(path.read_bytes())
    assert request.inputs == {PREPARE: executor.observe().finished[start(place).key]}


def test_a_stop_ends_the_attempt_and_its_daemons_for_the_cause_that_was_given_first(
    place: Place, executor: LocalExecutor
) -> None:
    place.wish(prepare=["hang"])
    executor.apply([start(place)])
    wait_until(lambda: has_daemon(place), what="the daemon", timeout_s=30)
    key = start(place).key

    executor.apply([Stop(PREPARE, key, 1, "DeadlineExceeded")])
    executor.apply([Stop(PREPARE, key, 1, "Suspended")])
    attempt = end_of(executor)

    assert attempt.cause is Reason.DEADLINE_EXCEEDED
    assert processes_of(place.home.root) == []


def test_a_stop_of_what_does_not_run_does_nothing(place: Place, executor: LocalExecutor) -> None:
    executor.apply([start(place)])
    before = end_of(executor)

    executor.apply([Stop(PREPARE, before.key, 1, "Superseded")])
    executor.apply([Stop(PREPARE, before.key, 7, "Superseded")])

    assert end_of(executor) == before


def test_closing_kills_what_runs_and_writes_down_that_it_has_ended(
    place: Place, executor: LocalExecutor
) -> None:
    place.wish(prepare=["stubborn"])
    executor.apply([start(place)])
    wait_until(lambda: has_daemon(place), what="the daemon", timeout_s=30)

    executor.close()

    record = read_record(folder_of(place).attempt(1))
    assert processes_of(place.home.root) == []
    assert record is not None
    assert (record.has_ended, record.cause) == (True, Reason.INTERRUPTED)


def test_recovering_ends_what_a_lost_run_has_left_and_says_interrupted(
    place: Place, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LEFTOVER_GRACE_S", 0.0)
    place.wish(prepare=["hang"])
    lost = an_executor(place)
    lost.apply([start(place)])
    wait_until(lambda: has_daemon(place), what="the daemon", timeout_s=30)

    executor.recover()
    (attempt,) = executor.observe().attempts

    assert processes_of(place.home.root) == []
    assert (attempt.is_running, attempt.cause, attempt.exit_code) == (
        False,
        Reason.INTERRUPTED,
        None,
    )
    lost.close()


def test_recovering_leaves_the_record_of_what_has_ended_as_it_is(
    place: Place, executor: LocalExecutor
) -> None:
    place.wish(prepare=["vanish"])
    executor.apply([start(place)])
    before = end_of(executor)

    later = an_executor(place)
    later.recover()

    assert later.observe().attempts == (before,)


def test_a_folder_in_which_nothing_was_started_is_no_attempt(
    place: Place, executor: LocalExecutor
) -> None:
    folder_of(place).attempt(1).path.mkdir(parents=True)

    assert executor.observe().attempts == ()


def test_the_latest_attempt_is_the_one_with_the_highest_number(
    place: Place, executor: LocalExecutor
) -> None:
    for number in (2, 10):
        an_open_attempt(place, number=number)

    (attempt,) = executor.observe().attempts

    assert attempt.attempt == 10


def test_a_result_of_another_key_does_not_count(place: Place, executor: LocalExecutor) -> None:
    executor.apply([start(place)])
    end_of(executor)
    for path in folder_of(place).path.rglob("result.json"):
        path.write_text(path.read_text().replace(start(place).key, "0" * 64))

    assert executor.observe().finished == {}
