"""What GitOps tools see on a real API server: true verdicts, and no drift."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster, kubectl
from job_states import PHASES, job_in, new_job
from tunesmith_api.finetunejob.status import Phase
from tunesmith_engine.stages.catalog import TRAIN

JOBS = Path(__file__).parents[2] / "examples" / "gitops" / "jobs"
KSTATUS: dict[str, str] = {Phase.SUCCEEDED: "Current", Phase.FAILED: "Failed"}


def made(cluster: Cluster, manifest: dict[str, Any]) -> None:
    """Apply a manifest as Git has it, and then its status as the operator writes it."""
    spec = {key: value for key, value in manifest.items() if key != "status"}
    spec["metadata"] = {"name": manifest["metadata"]["name"]}
    cluster.apply(spec).raise_for_status()
    status = {"status": manifest["status"]}
    cluster.merge("FineTuneJob", "helpdesk", status, status=True).raise_for_status()


@pytest.mark.parametrize("phase", PHASES)
def test_kstatus_reads_each_phase_as_what_it_is(cluster: Cluster, phase: str) -> None:
    """Flux and `argocd app wait` both stand on it."""
    if shutil.which("kstatus") is None:
        pytest.skip("put kstatus on the PATH, as the test cluster does")
    made(cluster, job_in(phase))

    live = cluster.kubectl("get", "finetunejobs", "--output=json")
    said = subprocess.run(["kstatus"], input=live, capture_output=True, text=True, check=False)

    assert KSTATUS.get(phase, "InProgress") in said.stdout, said


@pytest.mark.parametrize("condition", ["Complete", "Failed"])
def test_kubectl_wait_returns_with_the_condition(cluster: Cluster, condition: str) -> None:
    made(cluster, job_in(Phase.SUCCEEDED if condition == "Complete" else Phase.FAILED))

    cluster.kubectl("wait", f"--for=condition={condition}", "--timeout=5s", "finetunejob/helpdesk")


def test_a_status_is_no_drift_and_neither_are_defaults(cluster: Cluster) -> None:
    """What Git says, applied again after the operator has written, changes nothing."""
    made(cluster, job_in(TRAIN.phase))
    before = cluster.get("FineTuneJob", "helpdesk")

    spec = new_job() | {"metadata": {"name": "helpdesk"}}
    cluster.apply(spec).raise_for_status()

    after = cluster.get("FineTuneJob", "helpdesk")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert json.dumps(after["status"]) == json.dumps(before["status"])


def test_kustomize_builds_the_sample_and_the_server_takes_it(cluster: Cluster) -> None:
    text = kubectl("kustomize", str(JOBS)).replace("team-a", cluster.namespace)

    said = kubectl("apply", "--server-side", "--dry-run=server", "--filename=-", stdin=text)

    assert "finetunejob.tunesmith.dev/helpdesk-2026-11 serverside-applied" in said
