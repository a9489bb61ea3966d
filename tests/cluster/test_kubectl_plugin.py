"""`kubectl tunesmith`, found and called by a real kubectl, against a real API server."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster
from command import TUNESMITH
from job_folders import a_failed_job, a_finished_job
from operator_process import a_job
from tunesmith_api.finetunejob.job import RETRY_ANNOTATION
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_operator.finetunejob.child_names import LABEL_JOB, LABEL_STAGE


def plugin(cluster: Cluster, *arguments: str, namespace: bool = True) -> Any:
    """`kubectl tunesmith …` as a person types it."""
    place = ["-n", cluster.namespace] if namespace else []
    return subprocess.run(
        ["kubectl", "tunesmith", *arguments, *place],
        # Where the executable lies beside the command.
        env={**os.environ, "PATH": f"{TUNESMITH.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def make(cluster: Cluster, name: str, status: FineTuneJobStatus) -> None:
    manifest = a_job()
    manifest["metadata"]["name"] = name
    cluster.create(manifest).raise_for_status()
    told = status.model_dump_json(by_alias=True, exclude_none=True)
    patch = f'{{"status": {told}}}'
    cluster.kubectl(
        "patch", "ftj", name, "--subresource=status", "--type=merge", f"--patch={patch}"
    )


@pytest.fixture
def jobs(cluster: Cluster, tmp_path: Path) -> Cluster:
    """A job that is done, one that failed, and one that nobody has looked at."""
    make(cluster, "done", a_finished_job(tmp_path).status)
    make(cluster, "failed", a_failed_job(tmp_path).status)
    manifest = a_job()
    manifest["metadata"]["name"] = "new"
    cluster.create(manifest).raise_for_status()
    return cluster


def test_jobs_are_listed_as_on_a_laptop(jobs: Cluster) -> None:
    listed = plugin(jobs, "jobs")

    assert listed.returncode == 0, listed.stderr
    head, *lines = listed.stdout.splitlines()
    assert head.split()[:2] == ["job", "phase"]
    assert [line.split()[:2] for line in lines] == [
        ["done", "Succeeded"], ["failed", "Failed"], ["new", "Pending"],
    ]  # fmt: skip
    assert "helpdesk-1a2b3c4d5e6f" in lines[0]
    # A job that waits has an age, too: that of its object.
    assert lines[2].split()[-1] == "s"


def test_all_namespaces_and_json(jobs: Cluster) -> None:
    listed = plugin(jobs, "jobs", "-A", "--output", "json", namespace=False)

    names = {job["job"] for job in json.loads(listed.stdout)["jobs"]}
    assert {f"{jobs.namespace}/done", f"{jobs.namespace}/new"} <= names


def test_the_status_of_a_job_says_why_it_failed(jobs: Cluster) -> None:
    told = plugin(jobs, "status", "failed")

    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("failed: Failed\n  EvaluationGateFailed: heldOut loss is 3.1")
    assert "What to do:" in told.stdout


def test_logs_go_through_kubectl_pod_by_pod(jobs: Cluster) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "done--train-1-abcde-x",
            "labels": {LABEL_JOB: "done", LABEL_STAGE: "train"},
        },
        "spec": {"containers": [{"name": "stage", "image": "none"}]},
    }
    jobs.kubectl("create", "--filename=-", stdin=json.dumps(pod))

    told = plugin(jobs, "logs", "done", "train")
    none = plugin(jobs, "logs", "done", "verify")

    assert told.returncode == 0
    assert told.stdout == "==> train, pod done--train-1-abcde-x <==\n"
    assert "has not started" in told.stderr
    assert none.returncode == 2
    assert "no pod of verify of job 'done'" in none.stderr


def test_a_retry_is_asked_for(jobs: Cluster) -> None:
    taken = plugin(jobs, "retry", "failed")
    refused = plugin(jobs, "retry", "done")

    assert taken.returncode == 0, taken.stderr
    assert RETRY_ANNOTATION in jobs.get("FineTuneJob", "failed")["metadata"]["annotations"]
    assert refused.returncode == 2
    assert "'done' is Succeeded" in refused.stderr


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["status", "nobody"], 1, "not found"),
        (["status", "../x"], 2, "is no name of an object"),
        (["stats", "done"], 2, "did you mean 'status'?"),
    ],
)
def test_a_mistake_is_said_in_a_line(
    cluster: Cluster, given: list[str], code: int, said: str
) -> None:
    ended = plugin(cluster, *given)

    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("error: ")
    assert said in ended.stderr
