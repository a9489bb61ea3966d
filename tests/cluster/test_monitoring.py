"""Drift on a real API server: told in the status, taken back, and answered with one job."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from drift_reference import write_reference
from model_deployments import GATEWAY, a_deployment, condition, is_at_rest, publish
from mortal_operator import live_and_die
from operator_process import a_job, an_operator
from serving_cluster import PORT, ServingCluster

BLUE_GREEN = {"strategy": "blueGreen", "drainSeconds": 5}


def break_artifact(serving: ServingCluster, version: str) -> None:
    """Put other weights under the engines of a version."""
    # A copy: what plays the nodes makes replicas come and go meanwhile.
    for replica in list(serving.replicas.values()):
        if replica.version == version:
            url = f"http://{replica.address}:{PORT}/faults"
            httpx.post(url, json={"nonsense": True}).raise_for_status()


def test_a_version_whose_artifact_has_changed_makes_way_for_the_one_before(
    serving: ServingCluster,
) -> None:
    cluster = serving.cluster
    serving.faults["v2"] = ["--probe-seconds", "0.5"]
    publish(cluster, "v1")
    monitoring = {"onDrift": {"artifact": ["alert", "rollback"]}}
    cluster.create(
        a_deployment(gateway=GATEWAY, rollout=BLUE_GREEN, monitoring=monitoring)
    ).raise_for_status()
    with an_operator(cluster.namespace):
        serving.wait_until(is_at_rest("v1"))
        publish(cluster, "v2")
        serving.wait_until(is_at_rest("v2"))
        break_artifact(serving, "v2")
        told = serving.wait_until(has("ArtifactMismatch"))
        back = serving.wait_until(
            lambda status: status["stable"]["version"] == "v1" and not status.get("candidate")
        )
        described = cluster.kubectl("describe", "mdep", "helpdesk")

    artifact = told["monitoring"]["artifact"]
    assert condition(told, "ArtifactMismatch")["reason"] == "FingerprintMismatch"
    assert (artifact["version"], artifact["mismatchedReplicas"]) == ("v2", 1)
    assert [(each["version"], each["reason"]) for each in back["rejected"]] == [
        ("v2", "FingerprintMismatch")
    ]
    assert "FingerprintMismatch" in described


def test_drifted_traffic_makes_one_job_whoever_is_killed(
    serving: ServingCluster, tmp_path: Path
) -> None:
    cluster = serving.cluster
    serving.faults["v1"] = ["--reference", str(write_reference(tmp_path / "reference.json"))]
    publish(cluster, "v1")
    monitoring = {
        "onDrift": {"traffic": ["alert", "retrain"]},
        "retrain": {"jobName": "helpdesk"},
    }
    cluster.create(a_job("helpdesk")).raise_for_status()
    cluster.create(a_deployment(gateway=GATEWAY, monitoring=monitoring)).raise_for_status()
    written: list[str] = []
    asyncio.run(live_and_die(cluster, written, until=is_at_rest("v1")))
    serving.requests_per_second = 40
    asyncio.run(live_and_die(cluster, written, until=has("DriftDetected")))
    asyncio.run(live_and_die(cluster, written, until=has_retrained))
    serving.requests_per_second = 0
    status = cluster.get("ModelDeployment", "helpdesk")["status"]
    jobs = serving.objects("tunesmith.dev/v1alpha1/finetunejobs")

    made = [job for job in jobs if job["metadata"]["name"] != "helpdesk"]
    assert [job["metadata"]["labels"]["tunesmith.dev/retrained-version"] for job in made] == ["v1"]
    assert made[0]["metadata"]["name"] == status["monitoring"]["retrainings"][0]["job"]
    assert written.count("create FineTuneJob") == 1
    assert condition(status, "DriftDetected")["reason"] == "TrafficDrifted"
    assert status["monitoring"]["traffic"]["drifted"]


def has(type_: str) -> Any:
    """Whether a condition is there and True."""

    def holds(status: dict[str, Any]) -> bool:
        found = {each["type"]: each["status"] for each in status.get("conditions", ())}
        return found.get(type_) == "True"

    return holds


def has_retrained(status: dict[str, Any]) -> bool:
    made = status.get("monitoring", {}).get("retrainings", [])
    return bool(made) and made[-1]["state"] == "Created"
