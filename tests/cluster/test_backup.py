"""What is backed up here and applied there: by the commands of docs/task/back-up.md, word for word.

Another namespace stands for another cluster: uids, owners and status are others in both.
"""

import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cluster import Cluster, kubectl
from crowd import wait_until
from model_deployments import a_deployment, is_at_rest, published
from operator_process import a_job, an_operator
from serving_cluster import ServingCluster
from stage_pods import run_pods
from tunesmith_api.modelversion import PUBLISHED_ANNOTATION

PAGE: Final = Path(__file__).parents[2] / "docs" / "task" / "back-up.md"
_COMMAND: Final = re.compile(r"^\$ ((?:kubectl|jq) .+)$", flags=re.MULTILINE)
COMMANDS: Final = _COMMAND.findall(PAGE.read_text("utf-8"))
Json = dict[str, Any]


@pytest.fixture
def elsewhere(cluster: Cluster) -> Iterator[Cluster]:
    """Where the backup is restored."""
    if shutil.which("jq") is None:
        pytest.skip("put jq on the PATH, as the commands of the page want it")
    name = f"t-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield Cluster(cluster.http, name)
    kubectl("delete", "namespace", name, "--wait=false")


def run(command: str, folder: Path, *, namespace: str) -> None:
    """Run a command of the page for one namespace."""
    text = command.replace("--all-namespaces", f"--namespace={namespace}")
    subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=folder, check=True)


def back_up(cluster: Cluster, folder: Path, *, to: Cluster) -> tuple[str, str]:
    """Make the backup, of which the two commands are left that restore it elsewhere."""
    backup, objects, status = COMMANDS
    run(backup, folder, namespace=cluster.namespace)
    file = folder / "tunesmith.json"
    file.write_text(file.read_text().replace(cluster.namespace, to.namespace))
    return objects, status


def a_version_of(day: int, name: str) -> Json:
    """A version that was published on that day."""
    version = published(name)
    time = f"2026-11-{day:02}T00:00:00+00:00"
    version["metadata"]["annotations"] = {PUBLISHED_ANNOTATION: time}
    return version


def suspend(cluster: Cluster, *, is_on: bool) -> None:
    change = {"spec": {"suspend": is_on}}
    cluster.merge("FineTuneJob", "helpdesk", change).raise_for_status()


def test_a_job_that_is_over_is_over_in_the_other_cluster_and_one_without_status_is_new(
    cluster: Cluster, elsewhere: Cluster, tmp_path: Path
) -> None:
    cluster.create(a_job(suspend=True)).raise_for_status()
    # Generations count from 1 again where it is made anew.
    for is_on in (False, True, False):
        suspend(cluster, is_on=is_on)
    with an_operator(cluster.namespace):
        run_pods(cluster, "helpdesk", timeout_s=120)
    cluster.create(a_job("unfinished")).raise_for_status()
    before = cluster.get("FineTuneJob", "helpdesk")["status"]
    objects, status = back_up(cluster, tmp_path, to=elsewhere)
    run(objects, tmp_path, namespace=elsewhere.namespace)
    run(status, tmp_path, namespace=elsewhere.namespace)
    with an_operator(elsewhere.namespace):
        wait_until(lambda: "Preparing" in elsewhere.kubectl("get", "ftj/unfinished"), timeout_s=120)
        jobs = elsewhere.kubectl("get", "jobs", "--output=name").split()
    restored = elsewhere.get("FineTuneJob", "helpdesk")
    version = elsewhere.get("ModelVersion", "helpdesk-1a2b3c")

    assert restored["metadata"]["generation"] < before["observedGeneration"]
    assert restored["status"] == before
    assert len(jobs) == 1
    assert jobs[0].startswith("job.batch/unfinished--prepare-1-")
    assert PUBLISHED_ANNOTATION in version["metadata"]["annotations"]
    assert version["spec"] == cluster.get("ModelVersion", "helpdesk-1a2b3c")["spec"]


def test_a_deployment_serves_what_it_served_and_not_what_was_made_last(
    cluster: Cluster, elsewhere: Cluster, tmp_path: Path
) -> None:
    rollout = {"strategy": "blueGreen", "drainSeconds": 5}
    for version in (a_version_of(1, "v9"), a_version_of(2, "v1")):
        cluster.create(version).raise_for_status()
    cluster.create(a_deployment(rollout=rollout)).raise_for_status()
    with (
        ServingCluster(cluster, has_gateway=False).running() as serving,
        an_operator(cluster.namespace),
    ):
        before = serving.wait_until(is_at_rest("v1"), timeout_s=120)
    for name in back_up(cluster, tmp_path, to=elsewhere):
        run(name, tmp_path, namespace=elsewhere.namespace)
    with (
        ServingCluster(elsewhere, has_gateway=False).running() as serving,
        an_operator(elsewhere.namespace),
    ):
        wait_until(lambda: serving.versions() == ["v1"], timeout_s=120)
        after = serving.wait_until(
            lambda status: is_at_rest("v1")(status) and status["stable"]["readyReplicas"] > 0,
            timeout_s=120,
        )
        events = json.loads(elsewhere.kubectl("get", "events", "--output=json"))["items"]

    assert after["stable"]["revision"] == before["stable"]["revision"]
    assert "v9" not in str(events)
