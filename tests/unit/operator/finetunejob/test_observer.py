"""What one look sees of a job, and what it asks the server for."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from job_double import KEY, READS, REPORT, SETTINGS, JobDouble
from kueue import workload_of
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import ObservedAttempt
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_operator.controller.child_cache import ChildCache, ChildRef
from tunesmith_operator.finetunejob.attempts import possible_children
from tunesmith_operator.finetunejob.controller import WATCHES, finetunejob_controller
from tunesmith_operator.finetunejob.observer import Observer, Snapshot
from tunesmith_operator.finetunejob.parsing import parse_status
from tunesmith_operator.kube.objects import MANAGED_BY, MANAGER

PREPARE = "helpdesk--prepare-1-"


def started(*kinds: str, **spec: Any) -> JobDouble:
    """A server on which the operator has just started the first stage of a job."""
    double = JobDouble(*kinds, **spec)
    asyncio.run(finetunejob_controller(double, SETTINGS, double.recorder).reconcile(KEY))
    double.requests.clear()
    return double


def observed(
    double: JobDouble,
    *,
    children: ChildCache | None = None,
    active: Collection[ChildRef] = (),
    after_s: float = 0,
    status: FineTuneJobStatus | None = None,
) -> Snapshot:
    """One look, so many seconds from now."""
    observer = Observer(
        double.plan,
        double,
        ChildCache(WATCHES) if children is None else children,
        key=KEY,
        uid=double.owner.uid,
    )
    now = datetime.now(UTC) + timedelta(seconds=after_s)
    status = status or parse_status(double.job)
    return asyncio.run(observer.observe(status, now=now, active=frozenset(active)))


def seen_of(double: JobDouble, **given: Any) -> ObservedAttempt:
    (attempt,) = observed(double, **given).observations.attempts
    return attempt


def job_of(double: JobDouble) -> str:
    (name,) = double.names("Job")
    return name


def a_pod(double: JobDouble, **status: Any) -> dict[str, Any]:
    """The pod of the only Job, made now."""
    job = job_of(double)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{job}-x",
            "namespace": "ns",
            "labels": {"batch.kubernetes.io/job-name": job},
        },
        "spec": {"nodeName": "n"},
        "status": {"phase": "Pending", **status},
    }
    double.put(pod)
    return pod


def test_an_attempt_that_runs_is_seen_with_its_progress() -> None:
    double = started()
    request = double.request_of(job_of(double))
    progress = '{"stage": "prepare", "percent": 40, "lastUpdateTime": "2026-11-26T00:00:00Z"}'
    double.change(*REPORT, {"data": {request.report.rsplit("/", 1)[1]: progress}})

    seen = seen_of(double)

    assert (seen.stage, seen.attempt, seen.is_running) == ("prepare", 1, True)
    assert seen.progress is not None
    assert seen.progress.percent == 40


def test_the_report_is_read_after_the_child_whose_end_it_explains() -> None:
    double = started()
    observed(double)
    asked = [request.rpartition("-")[0] for request in double.asked("get")]

    assert asked == [f"get Job {PREPARE[:-1]}", "get ConfigMap helpdesk"]


def test_a_result_counts_once_the_job_has_ended_as_it_says() -> None:
    double = started()
    result = double.report(double.request_of(job_of(double)))
    while_it_runs = observed(double)
    double.end(job_of(double))
    afterwards = observed(double)

    assert while_it_runs.observations.finished == {}
    assert afterwards.observations.finished == {result.key: result}
    (seen,) = afterwards.observations.attempts
    assert (seen.is_running, seen.result, seen.exit_code) == (False, result, 0)


def test_a_job_that_failed_has_no_use_for_a_report_of_success() -> None:
    double = started()
    double.report(double.request_of(job_of(double)))
    double.end(job_of(double), "Failed")
    seen = seen_of(double)

    assert (seen.is_running, seen.result, seen.cause) == (False, None, Reason.POD_DELETED)
    assert seen.log == f"kubectl logs -n ns job/{job_of(double)}"


def test_a_pod_that_was_killed_for_want_of_memory_is_the_cause_of_its_attempts_end() -> None:
    double = started()
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-26T00:00:00Z"}
    a_pod(double, phase="Failed", containerStatuses=[{"name": "s", "state": {"terminated": ended}}])
    double.end(job_of(double), "Failed")
    seen = seen_of(double)

    assert (seen.cause, seen.exit_code) == (Reason.HOST_OOM_KILLED, 137)
    assert seen.ended == datetime(2026, 11, 26, tzinfo=UTC)


@pytest.mark.parametrize("field", ["stage", "key", "attempt"])
def test_a_result_of_another_attempt_under_this_ones_key_does_not_count(field: str) -> None:
    """Whoever may write a report could copy a verdict that suits him better."""
    double = started()
    request = double.request_of(job_of(double))
    other = {"stage": TRAIN.name, "key": "0" * 64, "attempt": 2}[field]
    copied = double.report(request).model_copy(update={field: other})
    key = request.result.rsplit("/", 1)[1]
    double.change(*REPORT, {"data": {key: copied.model_dump_json(by_alias=True)}})
    double.end(job_of(double))

    assert seen_of(double).result is None


def test_a_record_that_breaks_its_schema_does_not_count() -> None:
    double = started()
    request = double.request_of(job_of(double))
    keys = [address.rsplit("/", 1)[1] for address in (request.report, request.result)]
    double.change(*REPORT, {"data": dict.fromkeys(keys, "{}")})
    running = seen_of(double)
    double.end(job_of(double))

    assert running.progress is None
    assert seen_of(double).result is None


def test_a_noted_result_counts_for_as_long_as_it_has_the_digest_that_was_noted() -> None:
    double = started()
    result = double.report(double.request_of(job_of(double)))
    stored = parse_status(double.job)
    assert stored is not None

    def finished(digest: str) -> bool:
        first, *others = stored.stages
        noted = first.model_copy(update={"result_digest": digest})
        status = stored.model_copy(update={"stages": [noted, *others]})
        return result.key in observed(double, status=status).observations.finished

    assert [finished(digest) for digest in (result.digest, "sha256:" + "0" * 64)] == [True, False]
    assert not any("Job" in request for request in double.asked("get"))


def test_of_a_report_of_another_job_nothing_counts_and_one_is_missed_while_something_runs() -> None:
    double = started()
    double.report(double.request_of(job_of(double)))
    owners = [{"uid": "of-the-deleted-job"}]
    double.change(*REPORT, {"metadata": {"ownerReferences": owners}})
    running = observed(double)
    double.end(job_of(double))
    ended = observed(double)

    assert (running.has_report, running.lacks_report) == (False, True)
    assert (ended.has_report, ended.lacks_report) == (False, False)
    assert ended.observations.finished == {}


@pytest.mark.parametrize(("after_s", "is_lacking"), [(0, False), (60, True)])
def test_pods_are_missed_once_their_job_has_had_its_time(
    after_s: float, *, is_lacking: bool
) -> None:
    assert observed(started(), after_s=after_s).lacks_pods is is_lacking


def test_what_runs_although_the_status_knows_of_nothing_is_found_unless_it_is_another_jobs() -> (
    None
):
    double = started()
    del double.job["status"]
    ours = job_of(double)
    stray = double.objects["Job", "ns", ours]
    for name, change in (
        ("helpdesk--train-1-aaaaa", {"ownerReferences": [{"uid": "another"}]}),
        ("helpdesk--train-2-aaaaa", {}),
    ):
        double.put({**stray, "metadata": {**stray["metadata"], "name": name, **change}})
    double.end("helpdesk--train-2-aaaaa")
    snapshot = observed(double)
    (seen,) = snapshot.observations.attempts

    assert (seen.stage, seen.attempt, seen.is_running) == ("prepare", 1, True)
    assert seen.key == double.plan.stages[0].key
    assert not snapshot.lacks_report
    assert double.asked(*READS) == [
        f"list Job {MANAGED_BY}={MANAGER},tunesmith.dev/job=helpdesk",
    ]


@pytest.mark.parametrize(("kinds", "num_lists"), [((), 1), (("RayJob",), 2)])
def test_strays_among_rayjobs_are_looked_for_where_those_are_defined(
    kinds: tuple[str, ...], num_lists: int
) -> None:
    double = JobDouble(*kinds, resources={"workers": 2})
    observed(double)

    assert len(double.asked("list")) == num_lists


def test_a_child_that_was_told_of_and_has_no_part_in_the_status_is_seen_to_run() -> None:
    """Its start was late on its way to the server, after the attempt was stopped."""
    double = started()
    expected = ChildRef("Job", job_of(double))
    late = ChildRef("Job", "helpdesk--prepare-7-aaaaa")
    job = double.objects["Job", "ns", expected.name]
    double.put({**job, "metadata": {**job["metadata"], "name": late.name}})
    gone = ChildRef("Job", "helpdesk--prepare-8-aaaaa")
    running = observed(double, active={expected, late, gone}).observations.attempts
    double.end(late.name)
    ended = observed(double, active={expected, late, gone}).observations.attempts

    assert [(attempt.attempt, attempt.key) for attempt in running] == [
        (1, double.plan.stages[0].key),
        (7, "aaaaa"),
    ]
    assert len(ended) == 1


def test_a_child_stays_what_it_was_started_as_whether_kuberay_came_or_went() -> None:
    double = JobDouble(resources={"workers": 2})
    train = next(stage for stage in double.plan.stages if stage.name == "train")
    job, rayjob = possible_children(double.plan, train.name, key=train.key, number=1)
    alone = JobDouble()
    (only,) = possible_children(alone.plan, train.name, key=train.key, number=1)

    assert [child.kind for child in (job, rayjob, only)] == ["Job", "RayJob", "Job"]


def test_children_that_run_cost_the_server_nothing_once_they_were_told_of() -> None:
    double = started()
    children = ChildCache(WATCHES)
    for kind, _, name in list(double.objects):
        if kind in {"Job", "ConfigMap"}:
            children.note(KEY, kind, double.objects[kind, "ns", name], is_gone=False)
    seen = seen_of(double, children=children)

    assert double.asked(*READS) == []
    assert seen.is_running


def test_workloads_are_read_only_while_the_queue_alone_knows() -> None:
    double = started("Workload", queueName="team-a")
    name = job_of(double)
    uid = double.objects["Job", "ns", name]["metadata"]["uid"]
    job = double.objects["Job", "ns", name]
    double.put(workload_of(job, "waits-for-quota", at="2026-11-26T00:00:00Z"))
    queued = seen_of(double)
    while_queued = double.asked("workloads")
    double.change("Job", "ns", name, {"spec": {"suspend": False}})
    observed(double)
    while_asleep = double.asked("workloads")
    double.change("Job", "ns", name, {"status": {"startTime": "2026-11-26T00:00:00Z"}})
    observed(double)

    assert queued.waiting is not None
    assert queued.waiting.in_queue
    assert while_queued == while_asleep == [f"workloads {uid}"]
    assert double.asked("workloads") == []


def test_events_are_read_only_of_a_pod_that_is_overdue() -> None:
    double = started()
    now = datetime.now(UTC).isoformat()
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}
    unready = {"type": "PodReadyToStartContainers", "status": "False", "lastTransitionTime": now}
    a_pod(double, conditions=[placed, unready])
    observed(double)
    at_once = double.asked("warnings")
    seen = seen_of(double, after_s=40)

    assert at_once == []
    assert len(double.asked("warnings")) == 1
    assert seen.waiting is not None
    assert seen.waiting.reason is Reason.POD_NOT_STARTED
