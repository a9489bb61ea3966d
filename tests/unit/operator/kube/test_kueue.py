"""What is made of the Workload that Kueue keeps for a suspended Job."""

from datetime import datetime
from typing import Any

import pytest

from kueue import SEEN, conditions_of, workload_of
from tunesmith_api.conditions import MAX_MESSAGE
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_operator.finetunejob.attempts import CHILD_KINDS
from tunesmith_operator.kube.child_kind import only_queue_knows
from tunesmith_operator.kube.kueue import admitted_at, is_queued, queue_wait

CREATED = "2026-11-25T00:00:00Z"
NOW = "2026-11-26T00:00:00Z"
LATER = "2026-11-26T01:00:00Z"


def a_child(*, suspend: bool = True, kind: str = "Job", **status: Any) -> dict[str, Any]:
    """A Job or RayJob in queue team-a."""
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "ray.io/v1",
        "kind": kind,
        "metadata": {
            "name": "j-train-1-abcde",
            "uid": "u",
            "creationTimestamp": CREATED,
            "labels": {"kueue.x-k8s.io/queue-name": "team-a"},
        },
        "spec": {"suspend": suspend, "template": {}},
        "status": status,
    }


def a_workload(child: dict[str, Any], *situations: str) -> dict[str, Any]:
    """What Kueue keeps for the child, an hour passing before the last of these situations."""
    conditions: list[dict[str, Any]] = []
    *earlier, _ = situations
    for each, at in zip(situations, [*[NOW] * len(earlier), LATER], strict=True):
        conditions = conditions_of(each, at=at, before=conditions)
    return workload_of(a_child(), at=NOW) | {
        "metadata": {"name": "w", "ownerReferences": [{"uid": child["metadata"]["uid"]}]},
        "status": {"conditions": conditions},
    }


def wait_when(situation: str, **reserved: str) -> Waiting:
    """The wait of a Job in that situation, with fields of QuotaReserved replaced."""
    child = a_child()
    workload = workload_of(child, situation, at=NOW)
    workload["status"]["conditions"][0] |= reserved
    return queue_wait("train", child, [workload])


@pytest.mark.parametrize(
    ("situation", "reason", "words"),
    [
        ("waits-for-quota", Reason.WAITING_FOR_QUOTA, "starts by itself when quota is free"),
        ("preempted", Reason.PREEMPTED, "gave its place in queue team-a to another job"),
        ("no-such-queue", Reason.QUEUE_NOT_FOUND, "LocalQueue team-a doesn't exist. Create it"),
        ("too-big", Reason.EXCEEDS_MAX_QUOTA, "Ask for less in a new job, or raise the quota"),
        ("deactivated", Reason.WORKLOAD_DEACTIVATED, "spec.active: true in Workload job-j-train"),
        ("admitted", Reason.ADMISSION_PENDING, "The workload is admitted"),
    ],
)
def test_each_situation_of_kueue_has_its_reason_and_its_next_step(
    situation: str, reason: Reason, words: str
) -> None:
    waiting = wait_when(situation)

    assert waiting.reason is reason
    assert words in waiting.message
    assert "team-a" in waiting.message
    assert waiting.in_queue
    assert waiting.timeout_s is None


def test_every_situation_that_was_seen_is_tried() -> None:
    assert set(SEEN) == {
        "waits-for-quota",
        "preempted",
        "no-such-queue",
        "too-big",
        "deactivated",
        "admitted",
    }


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("Inadmissible", "LocalQueue team-a doesn't exist", Reason.QUEUE_NOT_FOUND),
        ("Inadmissible", "ClusterQueue team-a is inactive", Reason.QUEUE_STOPPED),
        ("Suspended", "LocalQueue team-a is inactive", Reason.QUEUE_STOPPED),
        ("Pending", "insufficient unused quota for cpu", Reason.WAITING_FOR_QUOTA),
        ("Pending", "request > maximum capacity (9 > 8)", Reason.EXCEEDS_MAX_QUOTA),
        ("NoMatchingFlavor", "flavor gpu doesn't match", Reason.UNSCHEDULABLE),
        ("SomethingNew", "as a later release says", Reason.ADMISSION_PENDING),
    ],
)
def test_words_of_other_releases_are_understood(
    reason: str, message: str, expected: Reason
) -> None:
    waiting = wait_when("waits-for-quota", reason=reason, message=message)

    assert waiting.reason is expected
    assert message in waiting.message


def test_a_quota_that_is_reserved_and_not_admitted_quotes_what_the_admission_waits_for() -> None:
    child = a_child()
    workload = workload_of(child, "admitted", at=NOW)
    workload["status"]["conditions"][1] |= {"status": "False", "message": "check prov is pending"}

    waiting = queue_wait("train", child, [workload])

    assert waiting.reason is Reason.ADMISSION_PENDING
    assert "check prov is pending" in waiting.message


def test_a_cluster_without_kueue_and_a_job_that_kueue_passes_over_are_told_apart() -> None:
    other = workload_of(a_child() | {"metadata": a_child()["metadata"] | {"uid": "other"}}, at=NOW)

    missing = queue_wait("train", a_child(), None)
    passed_over = queue_wait("train", a_child(), [other])

    assert missing.reason is Reason.KUEUE_NOT_INSTALLED
    assert passed_over.reason is Reason.ADMISSION_PENDING
    assert "Kueue has made no Workload" in passed_over.message


def test_a_workload_without_a_word_is_no_reason_to_say_anything_untrue() -> None:
    child = a_child()
    waiting = queue_wait("train", child, [workload_of(child, at=NOW)])

    assert waiting.reason is Reason.ADMISSION_PENDING
    assert "Kueue has not said why" in waiting.message


def test_a_wait_counts_from_the_latest_suspension() -> None:
    told = {"type": "Suspended", "status": "True", "lastTransitionTime": NOW}
    again = queue_wait("train", a_child(conditions=[told]), None)
    resumed = queue_wait("train", a_child(conditions=[told | {"status": "False"}]), None)

    assert again.since == datetime.fromisoformat(NOW)
    assert resumed.since == datetime.fromisoformat(CREATED)


@pytest.mark.parametrize("kind", ["Job", "RayJob"])
def test_what_was_put_back_waits_from_then_on_and_no_longer(kind: str) -> None:
    """A Job does not say so before its controller has seen it; a RayJob never does."""
    child = a_child(kind=kind)
    preempted = a_workload(child, "admitted", "preempted")
    stopping = a_workload(child, "admitted", "preempted")
    admitted = next(e for e in stopping["status"]["conditions"] if e["type"] == "Admitted")
    admitted |= {"status": "True", "lastTransitionTime": NOW}

    for each in (preempted, stopping):
        assert queue_wait("train", child, [each]).since == datetime.fromisoformat(LATER)


def test_what_had_no_place_and_is_switched_off_goes_on_to_wait() -> None:
    child = a_child(kind="RayJob")
    waiting = queue_wait("train", child, [a_workload(child, "waits-for-quota", "deactivated")])

    assert waiting.reason is Reason.WORKLOAD_DEACTIVATED
    assert waiting.since == datetime.fromisoformat(CREATED)


def test_kueue_says_when_it_let_a_child_in_last_as_long_as_it_does() -> None:
    child = a_child(kind="RayJob", suspend=False)
    again = a_workload(child, "admitted", "preempted", "admitted")

    assert admitted_at(child, [again]) == datetime.fromisoformat(LATER)
    assert admitted_at(child, [a_workload(child, "admitted", "preempted")]) is None
    assert admitted_at(child, []) is admitted_at(child, None) is None


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        (a_child(suspend=False), True),
        (a_child(suspend=False, startTime=NOW), False),
        (a_child(suspend=True), True),
        (a_child(kind="RayJob", suspend=False, startTime=NOW), True),
        (a_child(kind="RayJob", suspend=False, jobDeploymentStatus="Suspended"), True),
        (a_child(kind="RayJob", suspend=False, jobDeploymentStatus="Suspending"), True),
        (a_child(kind="RayJob", suspend=False, jobDeploymentStatus="Initializing"), False),
        (a_child(kind="RayJob", suspend=True, jobDeploymentStatus="Suspended"), True),
        (a_child(kind="RayJob", suspend=True, jobDeploymentStatus="Running"), True),
    ],
)
def test_kueue_is_asked_while_a_child_is_held_or_has_not_noticed_that_it_may_run(
    child: dict[str, Any], *, expected: bool
) -> None:
    unnamed = child | {"metadata": {"name": "j"}}

    kind = CHILD_KINDS[child["kind"]]
    assert only_queue_knows(kind, child) is expected
    assert not only_queue_knows(kind, unnamed)


@pytest.mark.parametrize("situation", SEEN)
def test_no_wait_says_more_than_a_condition_takes(situation: str) -> None:
    waiting = wait_when(situation, message="x" * 1000)

    assert len(waiting.message) <= MAX_MESSAGE


def test_a_child_that_runs_or_names_no_queue_is_in_none() -> None:
    unnamed = a_child() | {"metadata": {"name": "j"}}

    assert is_queued(a_child())
    assert not is_queued(a_child(suspend=False))
    assert not is_queued(unnamed)
