"""When an attempt left its queue, began and ended, by what Jobs and pods have written down."""

from datetime import UTC, datetime
from typing import Any

import pytest

from child_states import state_of
from tunesmith_operator.kube.child_kind import AttemptTimes

QUEUE = {"kueue.x-k8s.io/queue-name": "team-a"}


def at(minute: int) -> datetime:
    return datetime(2026, 11, 26, 0, minute, tzinfo=UTC)


def text(minute: int) -> str:
    return at(minute).isoformat().replace("+00:00", "Z")


def a_job(*conditions: str, queued: bool = False, **status: Any) -> dict[str, Any]:
    ended = [{"type": each, "status": "True", "lastTransitionTime": text(9)} for each in conditions]
    labels = QUEUE if queued else {}
    return {
        "kind": "Job",
        "metadata": {"labels": labels},
        "spec": {},
        "status": {"conditions": ended, **status},
    }


def a_rayjob(deployment: str, *, suspend: bool = False, **status: Any) -> dict[str, Any]:
    """A RayJob of a queue."""
    return {
        "kind": "RayJob",
        "metadata": {"labels": QUEUE},
        "spec": {"suspend": suspend},
        "status": {"jobDeploymentStatus": deployment, **status},
    }


def times_of(
    child: dict[str, Any], pods: list[dict[str, Any]], *, admitted: datetime | None = None
) -> AttemptTimes:
    return state_of(child, pods, admitted=admitted).times


def a_pod(cluster: str = "", **state: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"ray.io/cluster": cluster} if cluster else {}},
        "status": {"containerStatuses": [{"name": "stage", "state": state}]},
    }


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


def test_a_job_that_was_let_in_and_does_not_say_so_yet_was_admitted_when_kueue_says() -> None:
    assert times_of(a_job(queued=True), [], admitted=at(4)).admitted == at(4)


@pytest.mark.parametrize("deployment", ["", "Suspended", "Suspending"])
def test_the_start_time_of_a_rayjob_counts_for_nothing_until_kuberay_wakes(deployment: str) -> None:
    asleep = a_rayjob(deployment, startTime=text(1))

    assert times_of(asleep, []).admitted is None
    assert times_of(asleep, [], admitted=at(4)).admitted == at(4)


@pytest.mark.parametrize("deployment", ["Initializing", "Running", "Complete", "Failed"])
def test_a_rayjob_that_kuberay_goes_on_with_left_its_queue_just_before(deployment: str) -> None:
    assert times_of(a_rayjob(deployment, startTime=text(5)), []).admitted == at(5)


def test_a_rayjob_that_is_held_has_not_left_its_queue() -> None:
    held = a_rayjob("Initializing", suspend=True, startTime=text(1))

    assert times_of(held, []).admitted is None


def test_a_rayjob_begins_with_the_first_pod_of_its_own_cluster() -> None:
    """Those of the cluster that was preempted may be there still."""
    old = a_pod("old", running={"startedAt": text(2)})
    pods = [a_pod("new", running={"startedAt": text(each)}) for each in (7, 6)]
    rayjob = a_rayjob("Running", startTime=text(5), rayClusterName="new")

    assert times_of(rayjob, [old, *pods]).began == at(6)
    assert times_of(a_rayjob("Suspended"), [old]).began is None


def test_what_runs_before_the_stage_is_none_of_its_work() -> None:
    pod = a_pod(waiting={"reason": "PodInitializing"})
    pulled = {"terminated": {"startedAt": text(2), "finishedAt": text(3), "exitCode": 0}}
    pod["status"]["initContainerStatuses"] = [{"name": "pull-server", "state": pulled}]

    assert times_of(a_job(startTime=text(1)), [pod]) == AttemptTimes()
