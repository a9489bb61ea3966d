"""When an attempt left its queue, began and ended, by what Jobs and pods have written down."""

from datetime import UTC, datetime
from typing import Any

from tunesmith_operator.attempt_times import AttemptTimes, times_of

QUEUE = {"kueue.x-k8s.io/queue-name": "team-a"}


def at(minute: int) -> datetime:
    return datetime(2026, 11, 26, 0, minute, tzinfo=UTC)


def text(minute: int) -> str:
    return at(minute).isoformat().replace("+00:00", "Z")


def a_job(*conditions: str, queued: bool = False, **status: Any) -> dict[str, Any]:
    ended = [{"type": each, "status": "True", "lastTransitionTime": text(9)} for each in conditions]
    labels = QUEUE if queued else {}
    return {"metadata": {"labels": labels}, "status": {"conditions": ended, **status}}


def a_pod(**state: Any) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": "stage", "state": state}]}}


def test_a_running_container_says_since_when() -> None:
    pod = a_pod(running={"startedAt": text(2)})

    assert times_of(a_job(startTime=text(1)), [pod]) == AttemptTimes(began=at(2))


def test_an_ended_container_says_when_it_ran() -> None:
    pod = a_pod(terminated={"startedAt": text(2), "finishedAt": text(5)})

    assert times_of(a_job("Failed"), [pod]) == AttemptTimes(began=at(2), ended=at(5))


def test_the_newest_pod_is_the_one_that_counts() -> None:
    pods = [a_pod(running={"startedAt": text(2)}), a_pod(waiting={"reason": "ContainerCreating"})]

    assert times_of(a_job(), pods) == AttemptTimes()


def test_a_complete_job_ran_even_if_its_pod_is_gone() -> None:
    job = a_job("Complete", startTime=text(1), completionTime=text(8))

    assert times_of(job, []) == AttemptTimes(began=at(1), ended=at(8))


def test_a_failed_job_without_a_pod_is_not_said_to_have_run() -> None:
    assert times_of(a_job("Failed", startTime=text(1)), []) == AttemptTimes(ended=at(9))


def test_only_a_job_of_a_queue_was_admitted() -> None:
    assert times_of(a_job(queued=True, startTime=text(3)), []).admitted == at(3)
    assert times_of(a_job(startTime=text(3)), []).admitted is None
    assert times_of(a_job(queued=True), []).admitted is None
