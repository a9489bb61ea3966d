"""The helpdesk job in a cluster: real images, pods, model, Ray, llm-compressor and vLLM.

The tests stand in the order of one release's life, and each goes on from the one before.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import helm
from cluster import Cluster, kubectl

JOB = Path(__file__).parents[2] / "examples/helpdesk/job.yaml"
STAGES = ["prepare", "train", "evaluate", "compress", "verify", "publish"]
OURS = "job,pod,pvc,serviceaccount,role,rolebinding,configmap"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def finished(team: Cluster) -> dict[str, Any]:
    """The job as it stands in the API once it is complete."""
    team.kubectl("apply", "--filename", str(JOB))
    team.kubectl("wait", "--for=condition=Complete", "ftj/helpdesk", "--timeout=1800s")
    return team.get("FineTuneJob", "helpdesk")


def test_the_job_completes_and_every_tool_reads_so(finished: dict[str, Any]) -> None:
    status = finished["status"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}

    assert status["phase"] == "Succeeded"
    assert (conditions["Complete"], conditions["Ready"]) == ("True", "True")
    assert conditions.get("Failed", "False") == "False"
    assert {each["observedGeneration"] for each in status["conditions"]} == {1}
    assert _as_kstatus(finished) in {"Current", "kstatus is not installed"}


def test_each_stage_ran_once_and_its_seconds_fit_into_the_job(finished: dict[str, Any]) -> None:
    status = finished["status"]

    assert [each["name"] for each in status["stages"]] == STAGES
    assert {(each["state"], each["attempt"]) for each in status["stages"]} == {("Succeeded", 1)}
    assert all(each["seconds"] > 0 for each in status["stages"])


def test_the_numbers_say_that_the_model_got_better(finished: dict[str, Any]) -> None:
    loss = next(
        each
        for each in finished["status"]["evaluation"]
        if (each["suite"], each["metric"], each["split"]) == ("heldOut", "loss", "tuned")
    )

    assert loss["value"] < loss["base"] - 0.1
    assert loss["low"] <= loss["value"] <= loss["high"]


def test_every_artifact_has_its_digest_and_size(finished: dict[str, Any]) -> None:
    artifacts = finished["status"]["artifacts"]

    assert artifacts
    assert all(each["digest"].startswith("sha256:") for each in artifacts)
    assert all(each["bytes"] > 0 for each in artifacts)


def test_nothing_but_status_was_written_to_the_job(finished: dict[str, Any]) -> None:
    wanted = yaml.safe_load(JOB.read_text(encoding="utf-8"))["spec"]

    assert "finalizers" not in finished["metadata"]
    assert finished["spec"]["model"] == wanted["model"]


def test_data_that_is_not_there_fails_the_job_with_that_reason(team: Cluster) -> None:
    job = _another("wrong-data")
    job["spec"]["dataset"]["train"]["uri"] = "python://chatterbot_corpus/data/no-such-file.yml"
    team.apply(job).raise_for_status()
    team.kubectl("wait", "--for=condition=Failed", "ftj/wrong-data", "--timeout=300s")
    status = team.get("FineTuneJob", "wrong-data")["status"]
    failed = next(each for each in status["conditions"] if each["type"] == "Failed")

    assert failed["reason"] == "DatasetNotFound"
    assert "no-such-file.yml" in failed["message"]
    assert status["stages"][0]["attempt"] == 1


def test_an_upgrade_leaves_finished_jobs_alone(
    finished: dict[str, Any], release: str, team: Cluster
) -> None:
    flags = ("--namespace", release, "--set=replicas=2", "--wait", "--timeout=180s")
    helm.upgrade(release, *flags)
    now = team.get("FineTuneJob", "helpdesk")

    assert now["status"] == finished["status"]


def test_deletion_leaves_nothing(finished: dict[str, Any], team: Cluster) -> None:
    team.kubectl("delete", "ftj", "--all", "--cascade=foreground", "--timeout=180s")
    team.kubectl("wait", "--for=delete", "pvc", "--selector=tunesmith.dev/job", "--timeout=120s")

    assert team.kubectl("get", OURS, "--selector=tunesmith.dev/job", "--output=name") == ""


def test_an_uninstall_leaves_the_definitions_alone(release: str) -> None:
    helm.uninstall(release, "--namespace", release, "--wait")
    ours = f"--selector=app.kubernetes.io/instance={release}"
    kubectl("wait", "--for=delete", "pod", f"--namespace={release}", ours, "--timeout=120s")
    left = kubectl("get", "all,configmap", "--all-namespaces",
                   ours, "--output=name")  # fmt: skip

    assert left == ""
    assert "finetunejobs.tunesmith.dev" in kubectl("get", "crd", "--output=name")


def _another(name: str) -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    return job | {"metadata": {"name": name}}


def _as_kstatus(found: dict[str, Any]) -> str:
    """What Flux and Argo CD's library makes of it, where its command is at hand."""
    if shutil.which("kstatus") is None:
        return "kstatus is not installed"
    done = subprocess.run(
        ["kstatus"], input=json.dumps(found), capture_output=True, text=True, check=False
    )
    return done.stdout.split()[0].strip(":")
