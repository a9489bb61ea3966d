"""A training in several pods in a queue: Kueue and KubeRay, played on the real API server."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from clock import now_text
from cluster import Cluster
from kuberay import KubeRay, needs_kuberay
from kueue import FLAVOR, Kueue, needs_kueue
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import end_pod, request_of, succeeded
from tunesmith_operator.kube.objects import condition_of

WORKERS = 2
# Twice what is waited, and as long again: a busy machine takes its seconds for each step.
LIMIT_S = 25
WAITED_S = 4
LATER = ("evaluate", "compress", "verify", "publish")


@contextmanager
def a_queued_training(
    cluster: Cluster, **spec: Any
) -> Iterator[tuple[Kueue, KubeRay, dict[str, Any]]]:
    """A job whose training waits in a queue, seen by Kueue and KubeRay."""
    needs_kueue()
    needs_kuberay()
    resources = {"workers": WORKERS, "gpusPerWorker": 1}
    job = a_job(queueName="team-a", resources=resources, **spec)
    cluster.create(job).raise_for_status()
    with an_operator(cluster.namespace):
        let_next_run(cluster)
        kuberay, kueue = KubeRay(cluster), Kueue(cluster, "RayJob")
        try:
            rayjob = kuberay.rayjob()
            kuberay.play(rayjob, "suspended")
            kueue.take_up(rayjob["metadata"]["name"])
            yield kueue, kuberay, rayjob
        finally:
            kuberay.leave()


def let_next_run(cluster: Cluster) -> None:
    """The stage that waits in the queue as a Job is admitted, and succeeds."""
    kueue = Kueue(cluster)
    name = kueue.next_job()
    kueue.take_up(name)
    kueue.admit(name)
    pod = wait_for_pod(cluster)
    end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})


def wait_for_reason(cluster: Cluster, reason: str) -> dict[str, Any]:
    """The job, once its training is where this reason says."""
    give_up = time.monotonic() + 60
    while (condition_of(job := cluster.get("FineTuneJob", "helpdesk"), "Trained") or {}).get(
        "reason"
    ) != reason:
        assert time.monotonic() < give_up, json.dumps(job["status"], indent=1)
        time.sleep(0.1)
    return job


def training_of(job: dict[str, Any]) -> dict[str, Any]:
    """The newest attempt of the training."""
    found: dict[str, Any] = [
        each for each in job["status"]["attempts"] if each["stage"] == "train"
    ][-1]
    return found


def ray_pods(cluster: Cluster) -> list[dict[str, Any]]:
    text = cluster.kubectl("get", "pods", "--selector", "ray.io/cluster", "--output=json")
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return found


def standing_of(job: dict[str, Any]) -> tuple[str, str]:
    """The phase of the job, and why its training is where it is."""
    return job["status"]["phase"], (condition_of(job, "Trained") or {})["reason"]


def let_in(cluster: Cluster, kueue: Kueue, kuberay: KubeRay, name: str) -> tuple[str, str]:
    """The training is admitted and runs; what the job says while KubeRay has not noticed yet."""
    kueue.admit(name)
    asleep = standing_of(wait_for_reason(cluster, "Running"))
    kuberay.play(kueue.job(name), "running")
    return asleep


def seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def test_a_training_that_is_preempted_waits_anew_and_each_second_counts_for_what_it_was(
    cluster: Cluster,
) -> None:
    """Its first run is longer than it may wait, and longer than KubeRay may take to wake."""
    limits = {"preRunningDeadlineSeconds": LIMIT_S, "backoffLimit": 0}
    with a_queued_training(cluster, **limits) as (kueue, kuberay, rayjob):
        name = rayjob["metadata"]["name"]
        kueue.say(name, "waits-for-quota")
        waits = wait_for_reason(cluster, "WaitingForQuota")
        time.sleep(WAITED_S)
        held_s = seconds_between(training_of(waits)["startTime"], now_text())
        asleep = [let_in(cluster, kueue, kuberay, name)]
        runs, running = wait_for_reason(cluster, "Running"), now_text()
        time.sleep(LIMIT_S)
        since = now_text()
        ran_s = seconds_between(running, since)
        kueue.preempt(name)
        preempted = wait_for_reason(cluster, "Preempted")
        kuberay.play(rayjob, "suspended")
        left = ray_pods(cluster)
        time.sleep(WAITED_S)
        still = cluster.get("FineTuneJob", "helpdesk")
        held_s += seconds_between(since, now_text())
        asleep.append(let_in(cluster, kueue, kuberay, name))
        again, running = wait_for_reason(cluster, "Running"), now_text()
        placed = ray_pods(cluster)
        time.sleep(WAITED_S)
        ran_s += seconds_between(running, now_text())
        kuberay.finish(rayjob)
        for _ in LATER:
            let_next_run(cluster)
        cluster.kubectl("wait", "--for=condition=Complete", "ftj/helpdesk", "--timeout=40s")
    job = cluster.get("FineTuneJob", "helpdesk")
    training, stage = training_of(job), job["status"]["stages"][1]
    lasted_s = seconds_between(training["startTime"], training["endTime"])

    assert standing_of(waits) == ("Queued", "WaitingForQuota")
    assert [standing_of(each) for each in (preempted, still)] == [("Queued", "Preempted")] * 2
    assert [standing_of(each) for each in (runs, again)] == [("Training", "Running")] * 2
    assert asleep == [("Training", "Running")] * 2
    assert left == []
    assert len(placed) == 1 + WORKERS
    assert all(each["spec"]["nodeSelector"] == FLAVOR["nodeSelector"] for each in placed)
    assert (training["number"], training["reason"], stage["failures"]) == (1, "Succeeded", 0)
    # What was seen to run ran, and what was seen to wait waited. How long a busy machine takes to
    # tell lies between, and no second of that counts twice.
    assert training["runningSeconds"] >= ran_s - 2
    # KubeRay, and not Kueue, has the last word on when it left its queue, two seconds later.
    assert training["queueHeldSeconds"] >= held_s - 2
    assert training["runningSeconds"] + training["queueHeldSeconds"] <= lasted_s + 2
    assert training["queuedSeconds"] == pytest.approx(lasted_s - training["runningSeconds"], abs=1)
    assert job["status"]["gpuSeconds"] == pytest.approx(
        sum(each["accelerators"] * each["runningSeconds"] for each in job["status"]["attempts"])
    )
