"""A job that failed in a cluster is taken up again, with all that is done."""

import subprocess
from typing import Any

import httpx
import pytest

from births import watched_births
from cluster import Cluster
from command import TUNESMITH
from crowd import Crowd, a_crowd, picture, wait_until
from held_jobs import Holds, Ours, operator_behind
from operator_process import a_job, an_operator, wait_for_pod
from stage_pods import end_pod, request_of, run_pods, succeeded
from tunesmith_api.finetunejob.job import RETRY_ANNOTATION

BEFORE = ("prepare", "train", "evaluate")
VERDICT = {"outcome": "Failed", "reason": "ResourcesUnavailable", "bad_input": True}
FP8: dict[str, Any] = {"quantize": {"scheme": "FP8"}}


def fail_in_compress(cluster: Cluster) -> None:
    """Let the stages succeed that come before it, and refuse it."""
    for stage in BEFORE:
        pod = wait_for_pod(cluster)
        request = request_of(cluster, pod)
        assert request.stage == stage
        end_pod(cluster, pod, succeeded(request), ended={"exitCode": 0})
    pod = wait_for_pod(cluster)
    refused = succeeded(request_of(cluster, pod)).model_copy(update=VERDICT)
    end_pod(cluster, pod, refused, ended={"exitCode": 2})
    cluster.kubectl("wait", "--for=condition=Failed", "ftj/helpdesk", "--timeout=40s")


def claim_of(cluster: Cluster) -> str:
    return cluster.kubectl("get", "pvc/helpdesk-tunesmith", "--output=jsonpath={.metadata.uid}")


def test_a_job_that_failed_in_compress_is_retried_by_the_command(cluster: Cluster) -> None:
    cluster.create(a_job()).raise_for_status()

    with an_operator(cluster.namespace):
        fail_in_compress(cluster)
        claim, failed = claim_of(cluster), cluster.get("FineTuneJob", "helpdesk")["status"]
        command = [str(TUNESMITH), "retry", "helpdesk", "--namespace", cluster.namespace]
        subprocess.run(command, check=True)
        cluster.kubectl("wait", "--for=condition=Failed=False", "ftj/helpdesk", "--timeout=40s")
        ran = run_pods(cluster, "helpdesk")
        again = subprocess.run(command, check=False, capture_output=True, text=True)
    job = cluster.get("FineTuneJob", "helpdesk")
    status = job["status"]

    assert ran == ["compress-2", "verify-1", "publish-1"]
    assert status["phase"] == "Succeeded"
    assert status["attempts"][:4] == failed["attempts"]
    assert status["lastHandledRetryAt"] == job["metadata"]["annotations"][RETRY_ANNOTATION]
    # The volume with what is done, which a deletion of the job would have taken along.
    assert claim_of(cluster) == claim
    assert again.returncode == 2
    assert "'helpdesk' is Succeeded" in again.stderr


def test_a_correction_takes_the_job_up_and_runs_with_what_it_says_now(cluster: Cluster) -> None:
    cluster.create(a_job(compression=FP8)).raise_for_status()

    with an_operator(cluster.namespace):
        fail_in_compress(cluster)
        seed = cluster.merge("FineTuneJob", "helpdesk", {"spec": {"training": {"seed": 7}}})
        change: dict[str, Any] = {"spec": {"compression": {"quantize": {"scheme": "none"}}}}
        cluster.merge("FineTuneJob", "helpdesk", change).raise_for_status()
        request = request_of(cluster, wait_for_pod(cluster))
        late = cluster.merge("FineTuneJob", "helpdesk", {"spec": {"compression": FP8}})
        ran = run_pods(cluster, "helpdesk")

    assert "spec.training.seed: what train reads is fixed by now" in seed.text
    assert (request.stage, request.attempt) == ("compress", 2)
    assert request.spec.compression.quantize.scheme == "none"
    assert "compression is fixed from the start on, unless the job fails" in late.text
    assert ran == ["compress-2", "verify-1", "publish-1"]


def test_a_retry_that_was_asked_for_while_nobody_ran_is_done_later(cluster: Cluster) -> None:
    cluster.create(a_job()).raise_for_status()
    with an_operator(cluster.namespace):
        fail_in_compress(cluster)
    cluster.kubectl("annotate", "ftj/helpdesk", f"{RETRY_ANNOTATION}=now")

    with an_operator(cluster.namespace):
        cluster.kubectl("wait", "--for=condition=Failed=False", "ftj/helpdesk", "--timeout=60s")
        ran = run_pods(cluster, "helpdesk")

    assert ran[0] == "compress-2"


def failed_jobs(crowd: Crowd, count: int) -> list[str]:
    """As many jobs more, which fail in compress."""
    added = [crowd.add() for _ in range(count)]
    crowd.play(until=crowd.are_over)
    assert {crowd.phases()[namespace] for namespace in added} == {"Failed"}
    return added


@pytest.mark.long
def test_killed_after_any_write_of_a_retry_the_end_is_the_same(server: httpx.Client) -> None:
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        crowd.refused = frozenset({"compress-1"})
        fault = Holds(crowd.home)
        with operator_behind(fault, crowd, server) as (first, _):
            (undisturbed,) = failed_jobs(crowd, 1)
            fault.written.clear()
            crowd.ask_for_retry(undisturbed, "1")
            wait_until(lambda: crowd.phases()[undisturbed] != "Failed")
            crowd.play(until=crowd.are_over)
            # How often progress is told is a matter of time.
            points = [
                each for each in dict.fromkeys(fault.written[undisturbed]) if each != "progress"
            ]
            held = failed_jobs(crowd, len(points))
            fault.points = dict(zip(held, points, strict=True))
            for namespace in held:
                crowd.ask_for_retry(namespace, "1")
            crowd.play(until=lambda: not fault.points)
            first.kill()
        crowd.forget_leader()
        with operator_behind(Ours(crowd.home), crowd, server):
            wait_until(lambda: "Failed" not in crowd.phases().values())
            crowd.play(until=crowd.are_over)
        births.alive(crowd.namespaces)
        pictures = {name: picture(job, births.all) for name, job in crowd.jobs().items()}

    assert births.twins() == {}
    assert pictures == dict.fromkeys(pictures, pictures[undisturbed])
    assert {job["phase"] for job in (each["status"] for each in pictures.values())} == {"Succeeded"}
