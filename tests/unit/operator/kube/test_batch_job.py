"""What is made of Jobs and pods as the scheduler, the kubelet and the controllers leave them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from child_states import state_of
from tunesmith_api.conditions import MAX_MESSAGE
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_operator.kube.pods import PodTermination, overdue_pod

CREATED = "2026-11-01T00:00:00Z"
SCHEDULED_AT = "2026-11-01T00:01:00Z"
JOB: dict[str, Any] = {
    "kind": "Job",
    "metadata": {"name": "j-train-1-abcde", "creationTimestamp": CREATED},
    "spec": {},
}
MESSAGE = "Pod ns/x has condition DisruptionTarget matching FailJob rule at index 0"


def waiting_of(
    job: dict[str, Any],
    pods: list[dict[str, Any]],
    warnings: list[dict[str, Any]] | None = None,
    *,
    admitted: datetime | None = None,
) -> Waiting | None:
    return state_of(job, pods, warnings=warnings, admitted=admitted).waiting("train")


def termination_of(job: dict[str, Any], pods: list[dict[str, Any]]) -> PodTermination:
    termination = state_of(job, pods).termination
    assert termination is not None
    return termination


def condition(type_: str, status: str = "True", **fields: str) -> dict[str, Any]:
    return {"type": type_, "status": status, "lastTransitionTime": SCHEDULED_AT, **fields}


def a_pod(*conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "uid": "u", "creationTimestamp": CREATED},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Pending", "conditions": list(conditions), **status},
    }


def held_up(reason: str, message: str = "") -> dict[str, Any]:
    """A pod on a node whose container waits for this reason."""
    waiting = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "stage", "image": "stages:1", "state": waiting}
    return a_pod(condition("PodScheduled"), containerStatuses=[container])


def failed_job(message: str) -> dict[str, Any]:
    return JOB | {"status": {"conditions": [condition("Failed", message=message)]}}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", Reason.UNSCHEDULABLE),
        ('persistentvolumeclaim "w" not found', Reason.VOLUME_UNAVAILABLE),
        ("pod has unbound immediate PersistentVolumeClaims", Reason.VOLUME_UNAVAILABLE),
    ],
)
def test_what_the_scheduler_misses_is_quoted_with_the_time_since_when(
    said: str, reason: Reason
) -> None:
    pod = a_pod(condition("PodScheduled", "False", reason="Unschedulable", message=said))
    waiting = waiting_of(JOB, [pod])

    assert waiting is not None
    assert waiting.reason is reason
    assert said.rstrip(".") in waiting.message
    assert waiting.since == datetime.fromisoformat(SCHEDULED_AT)
    assert waiting.timeout_s is None


@pytest.mark.parametrize(
    ("held", "message", "reason", "timeout_s"),
    [
        ("ErrImagePull", "not found", Reason.IMAGE_PULL_FAILED, 600),
        ("ImagePullBackOff", "", Reason.IMAGE_PULL_FAILED, 600),
        ("InvalidImageName", "", Reason.IMAGE_PULL_FAILED, 0),
        ("CreateContainerConfigError", 'secret "hub" not found', Reason.SECRET_NOT_FOUND, 120),
        ("CreateContainerError", "no such device", Reason.POD_NOT_STARTED, 600),
    ],
)
def test_what_the_kubelet_cannot_start_is_given_up_after_a_while(
    held: str, message: str, reason: Reason, timeout_s: float
) -> None:
    waiting = waiting_of(JOB, [held_up(held, message)])

    assert waiting is not None
    assert (waiting.reason, waiting.timeout_s) == (reason, timeout_s)


def test_a_wait_for_an_image_says_the_same_at_every_try() -> None:
    """The kubelet goes to and fro between two reasons, and what differs is written each time."""
    tried, backed_off = (
        waiting_of(JOB, [held_up(reason, "")]) for reason in ("ErrImagePull", "ImagePullBackOff")
    )

    assert tried == backed_off


def test_a_missing_secret_is_named() -> None:
    pod = held_up("CreateContainerConfigError", 'secret "hub" not found')
    waiting = waiting_of(JOB, [pod])

    assert waiting is not None
    assert "Secret hub" in waiting.message


def test_a_container_that_is_being_made_is_told_of_after_two_minutes() -> None:
    waiting = waiting_of(JOB, [held_up("ContainerCreating")])

    assert waiting is not None
    assert (waiting.reason, waiting.grace_s) == (Reason.POD_NOT_STARTED, 120)


def test_volumes_that_are_not_mounted_are_told_of_sooner_than_an_image_that_is_pulled() -> None:
    scheduled = condition("PodScheduled")
    mounting = a_pod(scheduled, condition("PodReadyToStartContainers", "False"))
    pulling = a_pod(scheduled, condition("PodReadyToStartContainers"))
    waits = [waiting_of(JOB, [pod]) for pod in (mounting, pulling)]

    assert [each.grace_s for each in waits if each] == [30, 120]
    assert [each.reason for each in waits if each] == [Reason.POD_NOT_STARTED] * 2
    assert waits[0] is not None
    assert "has not mounted its volumes" in waits[0].message


def an_event(reason: str, message: str, *, of: str = "u", at: str = SCHEDULED_AT) -> dict[str, Any]:
    return {"involvedObject": {"uid": of}, "reason": reason, "message": message,
            "lastTimestamp": at}  # fmt: skip


@pytest.mark.parametrize(
    ("why", "said", "reason", "told"),
    [
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "secret-0" : secret "hub" not found',
            Reason.SECRET_NOT_FOUND,
            "train needs Secret hub, which is not there; create it",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "request" : configmap "r" not found',
            Reason.VOLUME_UNAVAILABLE,
            'configmap "r" not found',
        ),
        (
            "FailedAttachVolume",
            'Multi-Attach error for volume "w" Volume is already used by pod(s) other',
            Reason.VOLUME_UNAVAILABLE,
            "already used by pod(s) other",
        ),
        (
            "FailedCreatePodSandBox",
            "no networks found in /etc/cni/net.d",
            Reason.POD_NOT_STARTED,
            "no networks found in /etc/cni/net.d",
        ),
    ],
)
def test_why_a_node_does_not_get_a_pod_ready_is_quoted_from_its_newest_event(
    why: str, said: str, reason: Reason, told: str
) -> None:
    pod = a_pod(condition("PodScheduled"), condition("PodReadyToStartContainers", "False"))
    older = an_event("FailedMount", "of old", at=CREATED)
    others = an_event("FailedMount", "another's", of="v", at="2026-11-01T00:02:00Z")
    scheduler = an_event("FailedScheduling", "no nodes available")
    waiting = waiting_of(JOB, [pod], [others, scheduler, an_event(why, said), older])

    assert waiting is not None
    assert waiting.reason is reason
    assert told in waiting.message
    assert waiting.timeout_s is None


@pytest.mark.parametrize(("warnings", "recheck_s"), [(None, None), ([], 60)])
def test_events_that_do_not_say_why_yet_are_read_again(
    warnings: list[dict[str, Any]] | None, recheck_s: float | None
) -> None:
    pod = a_pod(condition("PodScheduled"), condition("PodReadyToStartContainers", "False"))
    waiting = waiting_of(JOB, [pod], warnings)

    assert waiting is not None
    assert (waiting.reason, waiting.recheck_s) == (Reason.POD_NOT_STARTED, recheck_s)


def test_events_of_a_pod_whose_node_is_done_with_it_count_no_more() -> None:
    pod = a_pod(condition("PodScheduled"), condition("PodReadyToStartContainers"))
    waiting = waiting_of(JOB, [pod], [an_event("FailedMount", "of old")])

    assert waiting is not None
    assert waiting.reason is Reason.POD_NOT_STARTED


@pytest.mark.parametrize(("seconds", "is_asked"), [(29, False), (30, True)])
def test_events_are_asked_for_once_a_node_has_had_its_time(seconds: int, *, is_asked: bool) -> None:
    scheduled = condition("PodScheduled")
    running = a_pod(scheduled, condition("PodReadyToStartContainers"), phase="Running")
    stuck = a_pod(scheduled, condition("PodReadyToStartContainers", "False"))
    now = datetime.fromisoformat(SCHEDULED_AT) + timedelta(seconds=seconds)

    assert overdue_pod([running, stuck], now=now) is (stuck if is_asked else None)


def test_a_pod_that_was_deleted_and_does_not_go_is_told_of_after_a_minute() -> None:
    pod = a_pod(condition("PodScheduled"), phase="Running")
    pod["metadata"]["deletionTimestamp"] = SCHEDULED_AT
    waiting = waiting_of(JOB, [pod])

    assert waiting is not None
    assert (waiting.reason, waiting.grace_s) == (Reason.POD_NOT_GONE, 60)
    assert "if node n1 is dead, delete it from the cluster" in waiting.message


def test_a_job_that_gets_no_pod_is_told_of() -> None:
    waiting = waiting_of(JOB, [])

    assert waiting is not None
    assert waiting.reason is Reason.POD_NOT_CREATED
    assert "kubectl describe job j-train-1-abcde" in waiting.message


def test_a_pod_is_missed_from_when_its_job_was_let_run() -> None:
    started = waiting_of(JOB | {"status": {"startTime": SCHEDULED_AT}}, [])
    admitted = waiting_of(JOB, [], admitted=datetime.fromisoformat(SCHEDULED_AT))

    assert started is not None
    assert started.since == datetime.fromisoformat(SCHEDULED_AT)
    assert admitted == started


def test_a_job_in_no_queue_that_somebody_suspends_is_told_of() -> None:
    status = {"conditions": [condition("Suspended")]}
    waiting = waiting_of(JOB | {"spec": {"suspend": True}, "status": status}, [])

    assert waiting is not None
    assert waiting.since == datetime.fromisoformat(SCHEDULED_AT)
    assert waiting.reason is Reason.POD_NOT_CREATED
    assert "somebody suspended Job j-train-1-abcde" in waiting.message


def test_a_pod_that_runs_waits_for_nothing() -> None:
    assert waiting_of(JOB, [a_pod(condition("PodScheduled"), phase="Running")]) is None


@pytest.mark.parametrize("said", ["x" * 1000, "persistentvolumeclaim " * 90])
def test_no_wait_says_more_than_a_condition_takes(said: str) -> None:
    pod = a_pod(condition("PodScheduled", "False", reason="Unschedulable", message=said))
    waiting = waiting_of(JOB, [pod])

    assert waiting is not None
    assert len(waiting.message) <= MAX_MESSAGE


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        ("PreemptionByScheduler", Reason.PREEMPTED),
        ("EvictionByEvictionAPI", Reason.PREEMPTED),
        ("DeletionByTaintManager", Reason.NODE_LOST),
        ("DeletionByPodGC", Reason.NODE_LOST),
        ("TerminationByKubelet", Reason.NODE_LOST),
    ],
)
def test_who_takes_a_pod_away_is_told_while_it_goes_and_after(by: str, reason: Reason) -> None:
    pod = a_pod(condition("DisruptionTarget", reason=by), phase="Running")
    waiting = waiting_of(JOB, [pod])

    assert waiting is not None
    assert waiting.reason is reason
    assert termination_of(failed_job(MESSAGE), [pod]).cause is reason


def test_a_disruption_is_known_even_when_the_pod_is_gone() -> None:
    assert termination_of(failed_job(MESSAGE), []).cause is Reason.PREEMPTED


def test_a_pod_that_is_gone_without_a_disruption_was_deleted() -> None:
    assert termination_of(failed_job("too many failures"), []).cause is Reason.POD_DELETED


@pytest.mark.parametrize(
    ("short_of", "reason"),
    [("memory", Reason.HOST_OOM_KILLED), ("ephemeral-storage", Reason.DISK_FULL)],
)
def test_an_eviction_says_what_the_node_was_short_of(short_of: str, reason: Reason) -> None:
    disruption = condition("DisruptionTarget", reason="TerminationByKubelet")
    message = f"The node was low on resource: {short_of}."
    pod = a_pod(disruption, phase="Failed", reason="Evicted", message=message)

    assert termination_of(failed_job(MESSAGE), [pod]).cause is reason


def test_a_pod_that_wrote_more_than_its_disk_may_hold_has_filled_it() -> None:
    message = 'Usage of EmptyDir volume "workspace" exceeds the limit "9Gi". '
    killed = {"terminated": {"reason": "Error", "exitCode": 137}}
    pod = a_pod(
        phase="Failed",
        reason="Evicted",
        message=message,
        containerStatuses=[{"name": "stage", "state": killed}],
    )

    assert termination_of(failed_job(MESSAGE), [pod]).cause is Reason.DISK_FULL


def test_a_container_over_its_memory_limit_was_killed_by_the_host() -> None:
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    pod = a_pod(phase="Failed", containerStatuses=[{"name": "stage", "state": ended}])
    ending = termination_of(failed_job("too many failures"), [pod])

    assert (ending.cause, ending.exit_code) == (Reason.HOST_OOM_KILLED, 137)


def test_times_of_the_server_have_a_zone() -> None:
    waiting = waiting_of(JOB, [])

    assert waiting is not None
    assert waiting.since.tzinfo == UTC


def proof(**state: Any) -> dict[str, Any]:
    return {"name": "pull-server", "image": "server:1", "state": state}


def test_an_image_of_a_later_stage_that_cannot_be_pulled_is_what_the_first_waits_for() -> None:
    words = ("ErrImagePull", "ImagePullBackOff")
    waits = [
        waiting_of(
            JOB,
            [
                a_pod(
                    condition("PodScheduled"),
                    initContainerStatuses=[proof(waiting={"reason": word})],
                    containerStatuses=[
                        {"name": "stage", "state": {"waiting": {"reason": "PodInitializing"}}}
                    ],
                )
            ],
        )
        for word in words
    ]

    # The kubelet's words alternate, and each change would be a write of the status.
    assert waits[0] == waits[1]
    assert waits[0] is not None
    assert waits[0].reason is Reason.IMAGE_PULL_FAILED
    assert waits[0].timeout_s is not None
    assert "server:1" in waits[0].message
    assert "resources.imagePullSecrets" in waits[0].message


def test_what_ran_before_the_stage_says_nothing_of_how_the_stage_ended() -> None:
    pod = a_pod(
        phase="Failed",
        initContainerStatuses=[proof(terminated={"exitCode": 0})],
        containerStatuses=[{"name": "stage", "state": {"terminated": {"exitCode": 3}}}],
    )

    assert termination_of(failed_job("too many failures"), [pod]).exit_code == 3


def test_an_image_that_cannot_be_started_is_how_the_attempt_ended() -> None:
    ended = {"exitCode": 128, "reason": "StartError", "message": "python: not found"}
    pod = a_pod(phase="Failed", initContainerStatuses=[proof(terminated=ended)])

    ending = termination_of(failed_job("too many failures"), [pod])

    assert (ending.exit_code, ending.termination_message) == (128, "python: not found")
