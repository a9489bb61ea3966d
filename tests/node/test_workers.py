"""A job of two workers under the real KubeRay and Kueue: undisturbed, and with something taken.

What is taken goes by force in the middle of training: a worker, the head, the quota. What must
remain is the held-out loss of the undisturbed job, since steps are what they were, whoever computed
them. How long each takes to be further than it was is written to
`build/node-workers.json`.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

import helm
from cluster import Cluster, connected, kubectl
from disturbed_jobs import LOST_AFTER, STEPS, Watched, watched
from restricted_pods import NO_RIGHTS, POD_SECURITY, make_restricted_namespace

ROOT = Path(__file__).parents[2]
RELEASE, TEAM, QUEUE = "workers", "workers-team", "workers"
TRAINER = "localhost/tunesmith/trainer:0.1.0"
RESULTS = ROOT / "build/node-workers.json"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def kuberay(node: None) -> None:
    """The real KubeRay's definitions; that it works, the jobs show."""
    if "rayjobs" not in _resources_of("ray.io"):
        pytest.skip("no workers in pods of their own: start the node with KubeRay")


@pytest.fixture(scope="module")
def team(kuberay: None, load_images: Callable[..., None]) -> Iterator[Cluster]:
    """A release that takes the trainer's image for later stages, too: no job gets that far."""
    load_images("operator", "trainer")
    for name in (RELEASE, TEAM):
        make_restricted_namespace(name)
    later = [f"--set=images.{each}={TRAINER}" for each in ("compressor", "server")]
    helm.install(RELEASE, "--namespace", RELEASE, *later, "--wait", "--timeout=180s")
    with connected() as http:
        yield Cluster(http, TEAM)
    kubectl("delete", "namespace", TEAM, "--timeout=180s")
    helm.uninstall(RELEASE, "--namespace", RELEASE, "--wait")
    kubectl("delete", "namespace", RELEASE, "--timeout=120s")


@pytest.fixture(scope="module")
def undisturbed(team: Cluster) -> float:
    """The held-out loss of a job from which nothing was taken."""
    with watched(team, "undisturbed") as job:
        job.train()
        _keep(job, resumed_s=None)
        return job.loss()


@pytest.mark.parametrize("group", ["worker", "head"])
def test_a_pod_that_is_lost_costs_the_steps_since_the_checkpoint(
    team: Cluster, undisturbed: float, group: str
) -> None:
    with watched(team, f"{group}-lost") as job:
        job.wait(lambda: job.step >= LOST_AFTER, what="never trained")
        lost_at = _lose(job, group)
        job.train()
        _keep(job, resumed_s=job.further_at() - lost_at)

        # A lost head's old workers train on beside the new ones: nothing that they write counts.
        assert job.loss() == pytest.approx(undisturbed, abs=1e-6)
        _assert_told(job, lost_at)


def test_a_job_that_is_preempted_leaves_at_once_and_goes_on(
    team: Cluster, queue: str, undisturbed: float
) -> None:
    with watched(team, "preempted", queueName=queue) as job:
        job.wait(lambda: job.step >= LOST_AFTER, what="never trained")
        step = job.step
        _urgent(team)
        left_s = job.wait(lambda: not job.pods(), what="its pods stay")
        team.kubectl("wait", "--for=condition=Complete", "job/urgent", "--timeout=180s")
        free_at = time.monotonic()
        job.train()
        _keep(job, resumed_s=job.further_at() - free_at, quota_back_s=left_s)

        assert left_s < 25  # a grace period is 30
        assert any("Preempted" in word for told in job.told for word in told.words)
        assert job.loss() == pytest.approx(undisturbed, abs=1e-6)
        # It left with the step at hand, so none was done again.
        (attempt,) = [each for each in job.status["attempts"] if each["stage"] == "train"]
        assert attempt["resumedFromStep"] >= step


@pytest.fixture(scope="module")
def queue(team: Cluster) -> Iterator[str]:
    """A queue with the quota of one such job."""
    if "clusterqueues" not in _resources_of("kueue.x-k8s.io"):
        pytest.skip("no quota is taken away: start the node with Kueue")
    for each in _quota():
        kubectl("apply", "--filename=-", stdin=json.dumps(each))
    yield QUEUE
    for each in _quota()[::-1]:
        kubectl("delete", "--ignore-not-found", "--filename=-", stdin=json.dumps(each))


def _resources_of(group: str) -> str:
    return kubectl("api-resources", f"--api-group={group}", "--output=name")


def _quota() -> list[dict[str, Any]]:
    version = "kueue.x-k8s.io/v1beta2"
    nominal = {"cpu": "2", "memory": "16Gi"}
    flavor = {
        "name": QUEUE,
        "resources": [{"name": name, "nominalQuota": amount} for name, amount in nominal.items()],
    }
    spec = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [{"coveredResources": list(nominal), "flavors": [flavor]}],
    }
    return [
        {"apiVersion": version, "kind": "ResourceFlavor", "metadata": {"name": QUEUE}},
        {
            "apiVersion": version,
            "kind": "WorkloadPriorityClass",
            "metadata": {"name": "urgent"},
            "value": 1000,
        },
        {"apiVersion": version, "kind": "ClusterQueue", "metadata": {"name": QUEUE}, "spec": spec},
        {
            "apiVersion": version,
            "kind": "LocalQueue",
            "metadata": {"name": QUEUE, "namespace": TEAM},
            "spec": {"clusterQueue": QUEUE},
        },
    ]


def _urgent(team: Cluster) -> None:
    """A Job of higher priority that wants nearly the whole quota, for ten seconds."""
    container = {
        "name": "urgent",
        "image": TRAINER,
        "command": ["sleep", "10"],
        "securityContext": NO_RIGHTS,
        "resources": {"requests": {"cpu": "1800m", "memory": "64Mi"}},
    }
    pod = {"restartPolicy": "Never", "securityContext": POD_SECURITY, "containers": [container]}
    labels = {"kueue.x-k8s.io/queue-name": QUEUE, "kueue.x-k8s.io/priority-class": "urgent"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "urgent", "labels": labels},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    team.kubectl("apply", "--filename=-", stdin=json.dumps(job))


def _lose(job: Watched, group: str) -> float:
    """Take one of the pods, as a node that dies does; the time of it."""
    pod = job.pods(group)[-1]
    job.cluster.kubectl("delete", "pod", pod, "--force", "--grace-period=0")
    return time.monotonic()


def _assert_told(job: Watched, lost_at: float) -> None:
    """One attempt; its status said what was lost, and kept the progress of the checkpoint."""
    since = [each for each in job.told if each.at > lost_at and each.stage == "train"]
    (attempt,) = [each for each in job.status["attempts"] if each["stage"] == "train"]
    steps = [point["step"] for point in job.curve() if point["kind"] == "train"]

    assert attempt["resumedFromStep"] >= LOST_AFTER - 4
    assert min(each.step for each in since) >= LOST_AFTER - 4
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS


def _keep(job: Watched, **seconds: float | None) -> None:
    """Write down what was seen."""
    RESULTS.parent.mkdir(exist_ok=True)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    start = job.told[0].at
    known[job.name] = {
        **seconds,
        "heldOutLoss": job.loss(),
        "told": [[round(each.at - start, 1), *astuple(each)[1:]] for each in job.told],
        "attempts": job.status["attempts"],
    }
    RESULTS.write_text(json.dumps(known, indent=1), encoding="utf-8")
