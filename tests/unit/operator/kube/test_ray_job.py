"""What is made of a RayJob and its pods as KubeRay and the cluster leave them."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from child_states import NOW, state_of
from tunesmith_api.conditions import MAX_MESSAGE
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_operator.kube.pods import PodTermination
from tunesmith_operator.kube.ray_job import RAY_JOB

CREATED = "2026-11-01T00:00:00Z"
LATER = "2026-11-01T00:10:00Z"


def a_rayjob(deployment: str = "Running", job: str = "RUNNING", **status: Any) -> dict[str, Any]:
    return {
        "kind": "RayJob",
        "metadata": {"name": "j--train-1-abcde", "creationTimestamp": CREATED},
        "spec": {},
        "status": {"jobDeploymentStatus": deployment, "jobStatus": job, **status},
    }


def a_pod(kind: str, phase: str = "Running", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{kind}-1",
            "creationTimestamp": CREATED,
            "labels": {"ray.io/node-type": kind},
        },
        "spec": {"nodeName": "n"},
        "status": {"phase": phase, **status},
    }


def ended(**fields: Any) -> dict[str, Any]:
    """The status of a pod whose container has ended."""
    terminated = {"exitCode": 1, "finishedAt": LATER, **fields}
    return {"containerStatuses": [{"name": "stage", "state": {"terminated": terminated}}]}


def waiting(
    *pods: dict[str, Any], rayjob: dict[str, Any] | None = None, admitted: datetime | None = None
) -> Waiting | None:
    return state_of(rayjob or a_rayjob(), pods, num_pods=3, admitted=admitted).waiting("train")


def termination_of(rayjob: dict[str, Any]) -> PodTermination:
    termination = state_of(rayjob).termination
    assert termination is not None
    return termination


@pytest.mark.parametrize(
    ("deployment", "job", "succeeded", "failed"),
    [
        ("", "", False, False),
        ("Initializing", "", False, False),
        ("Running", "RUNNING", False, False),
        ("Running", "SUCCEEDED", False, False),
        ("Complete", "SUCCEEDED", True, False),
        ("Complete", "STOPPED", False, True),
        ("Failed", "FAILED", False, True),
        ("Failed", "RUNNING", False, True),
        ("Suspended", "", False, False),
    ],
)
def test_it_is_over_when_kuberay_says_so(
    deployment: str, job: str, *, succeeded: bool, failed: bool
) -> None:
    rayjob = a_rayjob(deployment, job)

    assert (RAY_JOB.has_succeeded(rayjob), RAY_JOB.has_failed(rayjob)) == (succeeded, failed)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("AppFailed", None),
        ("JobStatusCheckTimeoutExceeded", Reason.NODE_LOST),
        ("DeadlineExceeded", Reason.KILLED),
        ("PreRunningDeadlineExceeded", Reason.KILLED),
        ("", Reason.KILLED),
    ],
)
def test_a_failure_has_the_cause_that_kuberay_names(reason: str, cause: Reason | None) -> None:
    assert termination_of(a_rayjob("Failed", "FAILED", reason=reason)).cause is cause


def test_the_exit_code_is_read_from_kuberays_words() -> None:
    said = "Job entrypoint command failed with exit code -9, last available logs (truncated):\n"
    log = "2026-11-01 00:00:00,0\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
    ending = termination_of(a_rayjob("Failed", "FAILED", reason="AppFailed", message=said + log))

    assert (ending.exit_code, ending.termination_message) == (-9, "")


def test_the_last_words_of_the_stage_are_read_from_the_log_that_kuberay_quotes() -> None:
    said = "Job entrypoint command failed with exit code 1, last available logs (truncated):\n"
    log = "Running entrypoint for job j: python -m x\n"
    log += "Traceback (most recent call last):\n  File \"x/y.py\", line 3, in z\nKeyError: 'rows'\n"
    ending = termination_of(a_rayjob("Failed", "FAILED", reason="AppFailed", message=said + log))

    assert ending.termination_message == "KeyError at x/y.py:3"


@pytest.mark.parametrize(
    ("pod", "reason", "who"),
    [
        (a_pod("head", "Failed", **ended()), Reason.KILLED, "the head"),
        (a_pod("worker", **ended(reason="OOMKilled")), Reason.HOST_OOM_KILLED, "a worker"),
        (
            a_pod("worker", conditions=[{"type": "DisruptionTarget", "status": "True",
                                         "reason": "PreemptionByScheduler"}]),
            Reason.PREEMPTED,
            "a worker",
        ),
    ],
)  # fmt: skip
def test_a_lost_pod_is_told_of_until_it_is_replaced(
    pod: dict[str, Any], reason: Reason, who: str
) -> None:
    found = waiting(a_pod("head") if who == "a worker" else a_pod("worker"), pod)

    assert found is not None
    assert found.reason is reason
    assert found.message.startswith(f"{who} of train")
    assert found.timeout_s is None


def test_what_the_head_waits_for_comes_first() -> None:
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no"}
    stuck = {"conditions": [said | {"lastTransitionTime": LATER}]}
    found = waiting(a_pod("worker", "Pending", **stuck), a_pod("head", "Pending", **stuck))

    assert found is not None
    assert found.message.startswith("the head of train fits on no node")


def test_a_worker_that_waits_for_a_head_that_runs_is_no_news_for_two_minutes() -> None:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": LATER}
    found = waiting(a_pod("head"), a_pod("worker", "Pending", conditions=[scheduled]))

    assert found is not None
    assert (found.reason, found.grace_s) == (Reason.POD_NOT_STARTED, 120)


def test_a_rayjob_in_no_queue_that_somebody_suspends_is_told_of_from_then_on() -> None:
    found = waiting(a_pod("head"), rayjob=a_rayjob() | {"spec": {"suspend": True}})

    assert found is not None
    assert (found.reason, found.reported_at) == (Reason.POD_NOT_CREATED, NOW)
    assert "somebody suspended RayJob j--train-1-abcde" in found.message


def test_a_kuberay_that_drops_what_was_asked_for_is_too_old() -> None:
    kept = {"entrypoint": "python -m x", "submissionMode": "HTTPMode"}
    found = waiting(a_pod("head"), rayjob=a_rayjob() | {"spec": kept})

    assert found is not None
    assert (found.reason, found.timeout_s) == (Reason.INVALID_SPEC, 0)
    assert found.message == (
        "KubeRay has a RayJob with no backoffLimit, which train needs. Upgrade it, or take "
        "workers: 1"
    )
    current = a_rayjob() | {"spec": {**kept, "backoffLimit": 0}}
    assert waiting(a_pod("head"), a_pod("worker"), a_pod("worker"), rayjob=current) is None


def test_a_rayjob_that_nobody_takes_up_is_told_of() -> None:
    found = waiting(rayjob=a_rayjob("", "") | {"status": {}})

    assert found is not None
    assert found.reason is Reason.POD_NOT_CREATED
    assert "KubeRay has not taken up RayJob j--train-1-abcde" in found.message


@pytest.mark.parametrize("deployment", ["", "Suspended", "Suspending"])
def test_a_rayjob_that_a_queue_admitted_late_has_time_to_wake_from_then_on(deployment: str) -> None:
    """KubeRay was seen to take 21 s; what it wrote before is of another time."""
    admitted = NOW - timedelta(seconds=25)
    found = waiting(rayjob=a_rayjob(deployment, "", startTime=CREATED), admitted=admitted)

    assert found is not None
    assert (found.reason, found.since) == (Reason.POD_NOT_CREATED, admitted)
    assert found.reported_at > NOW


def test_pods_are_missed_from_when_kuberay_began_and_not_from_the_creation() -> None:
    rayjob = a_rayjob("Initializing", "", rayClusterName="c-1", startTime=LATER)
    found = waiting(rayjob=rayjob)

    assert found is not None
    assert found.since == datetime.fromisoformat(LATER)


def test_pods_of_the_cluster_that_was_preempted_are_no_pods_of_the_next() -> None:
    old, new = a_pod("head"), a_pod("head", "Pending")
    for pod, name in ((old, "c-1"), (new, "c-2")):
        pod["metadata"]["labels"]["ray.io/cluster"] = name
    old["metadata"]["deletionTimestamp"] = LATER
    asleep = waiting(old, rayjob=a_rayjob("Suspended", ""))
    begun = waiting(old, new, rayjob=a_rayjob("Initializing", "", rayClusterName="c-2"))

    assert asleep is not None
    assert asleep.reason is Reason.POD_NOT_CREATED
    assert begun is not None
    assert begun.reason is Reason.POD_NOT_STARTED


def test_pods_that_the_cluster_refuses_are_told_of() -> None:
    found = waiting(a_pod("head"), rayjob=a_rayjob("Initializing", "", rayClusterName="c-1"))

    assert found is not None
    assert found.reason is Reason.POD_NOT_CREATED
    assert "kubectl describe raycluster c-1" in found.message


def test_a_head_that_kuberay_does_not_reach_is_told_of() -> None:
    found = waiting(a_pod("head"), rayjob=a_rayjob(jobStatusCheckFailureStartTime=LATER))

    assert found is not None
    assert (found.reason, found.since) == (Reason.NODE_LOST, datetime.fromisoformat(LATER))


def test_a_worker_that_is_gone_and_not_replaced_is_missed_from_the_moment_it_is_noticed() -> None:
    found = waiting(a_pod("head"), a_pod("worker"), rayjob=a_rayjob(rayClusterName="c-1"))

    assert found is not None
    assert (found.reason, found.reported_at) == (Reason.POD_NOT_CREATED, NOW)
    assert "2 of its 3 pods" in found.message
    assert "kubectl describe raycluster c-1" in found.message


@pytest.mark.parametrize(("num_others", "is_told"), [(1, True), (2, False)])
def test_a_worker_on_a_lost_node_is_told_of_until_another_is_in_its_place(
    num_others: int, *, is_told: bool
) -> None:
    lost = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
    stuck = a_pod("worker", conditions=[lost])
    stuck["metadata"]["deletionTimestamp"] = LATER
    found = waiting(a_pod("head"), stuck, *[a_pod("worker")] * num_others)

    assert (found is not None) == is_told
    if found is not None:
        assert found.reason is Reason.NODE_LOST
        assert "if node n is dead, delete it from the cluster" in found.message


def test_pods_that_are_left_of_a_failed_attempt_hold_the_next_one_up() -> None:
    head, worker = a_pod("head"), a_pod("worker", "Failed")
    rayjob = a_rayjob("Failed", "FAILED", reason="AppFailed")
    found = waiting(head, worker, rayjob=rayjob)

    assert state_of(rayjob, [head, worker]).termination is None
    assert state_of(rayjob, [worker]).termination is not None
    assert found is not None
    assert found.reason is Reason.POD_NOT_GONE


def test_one_that_runs_with_all_its_pods_waits_for_nothing() -> None:
    assert waiting(a_pod("head"), a_pod("worker"), a_pod("worker")) is None


@pytest.mark.parametrize("state", ["ValidationFailed", "Failed", "Initializing", "Running", ""])
def test_no_wait_says_more_than_a_condition_takes(state: str) -> None:
    rayjob = a_rayjob(state, "", message="x" * 1000, rayClusterName="c" * 53,
                      jobStatusCheckFailureStartTime=LATER)  # fmt: skip
    rayjob["metadata"]["name"] = "j" * 47
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    stuck = {"conditions": [said | {"lastTransitionTime": LATER, "message": "y" * 1000}]}
    head = a_pod("head", "Pending", **stuck)
    head["spec"]["affinity"] = {"podAffinity": {}}
    found = [waiting(*pods, rayjob=rayjob) for pods in ([], [head])]

    assert all(each is None or len(each.message) <= MAX_MESSAGE for each in found)
