"""What the operator makes of what replicas tell: conditions, Events, metrics, the next job."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import pytest

from api_double import Manifest
from deployment_double import KEY, READY, DeploymentDouble
from model_deployments import condition
from tunesmith_api.modeldeployment.monitoring_status import SignalDrift, TrafficStatus
from tunesmith_engine.deployment.replica_report import BiasEvidence, ProbeEvidence, ReadyReason
from tunesmith_engine.monitoring.drift_page import DriftBlock, DriftPage
from tunesmith_operator.modeldeployment.monitors import SAVE_S

MEMORY: Final = ("ConfigMap", "ns", "helpdesk-monitoring")
RETRAIN: Final = {
    "onDrift": {"traffic": ["alert", "retrain"]},
    "retrain": {"jobName": "helpdesk"},
}
TEMPLATE: Final[Manifest] = {
    "apiVersion": "tunesmith.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {
        "name": "helpdesk",
        "namespace": "ns",
        "labels": {"argocd.argoproj.io/instance": "jobs"},
        "ownerReferences": [{"uid": "u", "kind": "X", "name": "x"}],
    },
    "spec": {
        "model": {"uri": "file:///base"},
        "dataset": {"train": {"uri": "s3://tickets/latest"}},
        "output": {"model": "helpdesk", "version": "v1"},
        "suspend": True,
    },
}


class Threshold:
    """Calls more than 100 requests a drift."""

    def observe(
        self,
        state: dict[str, Any] | None,
        blocks: Iterable[tuple[datetime, Mapping[str, Any]]],
        *,
        reference: dict[str, Any] | None,  # noqa: ARG002 - as it is asked
    ) -> dict[str, Any]:
        before = state["requests"] if state else 0
        return {"requests": before + sum(sketch["numRequests"] for _, sketch in blocks)}

    def traffic(
        self,
        state: dict[str, Any] | None,
        *,
        version: str,
        reference: dict[str, Any] | None,  # noqa: ARG002 - as it is asked
    ) -> TrafficStatus:
        number = state["requests"] if state else 0
        row = SignalDrift(signal="promptTokens", log_e=number / 10, effect=0.2)
        return TrafficStatus(
            version=version,
            requests=number,
            threshold_log_e=10.0,
            signals=[row],
            drifted=["promptTokens"] if number > 100 else [],
        )


def served(**monitoring: Any) -> DeploymentDouble:
    """A deployment whose first version serves."""
    server = DeploymentDouble(monitoring=monitoring)
    server.detector = Threshold()
    server.reconciler = server.new_operator()
    server.put(json.loads(json.dumps(TEMPLATE)))
    server.publish("v1")
    for _ in range(8):
        look(server)
    assert server.status["stable"]["version"] == "v1"
    return server


def look(server: DeploymentDouble) -> float | None:
    return asyncio.run(server.look())


def tell(server: DeploymentDouble, number: int) -> None:
    """Have the replicas tell of so many requests, once."""
    page = DriftPage("1", 1, "v1", (DriftBlock(1.0, {"numRequests": number}),))
    server.replicas.pages = [page]


def events(server: DeploymentDouble, reason: str) -> list[str]:
    return [
        item["message"]
        for (kind, *_), item in server.objects.items()
        if kind == "Event" and item["reason"] == reason
    ]


def jobs(server: DeploymentDouble) -> list[Manifest]:
    return [
        item
        for (kind, _, name), item in server.objects.items()
        if kind == "FineTuneJob" and name != "helpdesk"
    ]


def test_a_drift_is_told_in_condition_event_and_metrics() -> None:
    server = served()
    assert condition(server.status, "DriftDetected")["status"] == "False"
    tell(server, 200)
    look(server)
    look(server)

    told = condition(server.status, "DriftDetected")
    assert (told["status"], told["reason"]) == ("True", "TrafficDrifted")
    assert "promptTokens effect 0.2" in told["message"]
    assert len(events(server, "TrafficDrifted")) == 1
    samples = {
        sample.name: sample.value
        for family in server.metrics.collect()
        for sample in family.samples
    }
    assert samples["tunesmith_drift_effect"] == pytest.approx(0.2)
    assert samples["tunesmith_drift_log_e_threshold"] == 10.0
    assert samples["tunesmith_artifact_mismatch"] == 0.0


def test_without_alert_neither_events_nor_a_threshold_are_told() -> None:
    server = served(onDrift={"traffic": [], "artifact": []})
    tell(server, 200)
    look(server)
    look(server)

    assert condition(server.status, "DriftDetected")["status"] == "True"
    assert events(server, "TrafficDrifted") == []
    names = {family.name for family in server.metrics.collect()}
    assert "tunesmith_drift_log_e_value" in names
    assert not names & {"tunesmith_drift_log_e_threshold", "tunesmith_artifact_mismatch"}


def test_what_is_not_to_be_watched_is_not() -> None:
    server = served(enabled=False)
    tell(server, 200)
    look(server)

    assert "monitoring" not in server.status
    assert MEMORY not in server.objects
    assert not [c for c in server.status["conditions"] if c["type"] == "DriftDetected"]


def test_the_memory_is_kept_every_five_minutes_and_goes_with_the_deployment() -> None:
    server = served()
    versions = set()
    for _ in range(20):
        tell(server, 1)
        look(server)
        if MEMORY in server.objects:
            versions.add(server.objects[MEMORY]["metadata"]["resourceVersion"])

    assert 1 <= len(versions) <= 20 * 60 / SAVE_S + 1
    (owner,) = server.objects[MEMORY]["metadata"]["ownerReferences"]
    assert owner["uid"] == server.objects[KEY]["metadata"]["uid"]


def test_the_next_operator_goes_on_where_this_one_was() -> None:
    server = served()
    tell(server, 60)
    for _ in range(7):
        look(server)
        server.replicas.pages = []
    server.reconciler = server.new_operator()
    tell(server, 60)
    look(server)
    look(server)

    assert condition(server.status, "DriftDetected")["status"] == "True"


def test_a_map_of_somebody_else_is_neither_read_nor_written() -> None:
    server = DeploymentDouble()
    metadata = {"name": "helpdesk-monitoring", "namespace": "ns"}
    server.put({"kind": "ConfigMap", "metadata": metadata, "data": {"memory.json": "{"}})
    server.publish("v1")
    for _ in range(12):
        look(server)

    assert server.status["stable"]["version"] == "v1"
    assert server.objects[MEMORY]["data"] == {"memory.json": "{"}


def test_a_drift_makes_one_job_whoever_is_killed() -> None:
    """The operator is another one at every look."""
    server = served(**RETRAIN)
    tell(server, 200)
    for _ in range(8):
        look(server)
        server.reconciler = server.new_operator()

    (job,) = jobs(server)
    (made,) = server.status["monitoring"]["retrainings"]
    assert made["job"] == job["metadata"]["name"]
    assert job["spec"]["output"] == {"model": "helpdesk"}
    assert "suspend" not in job["spec"]
    assert job["spec"]["dataset"] == TEMPLATE["spec"]["dataset"]
    assert "ownerReferences" not in job["metadata"]
    assert job["metadata"]["labels"] == {
        "tunesmith.dev/retrains": "helpdesk",
        "tunesmith.dev/retrained-version": "v1",
    }


def test_the_record_says_that_the_job_is_there_and_it_is_not_made_again() -> None:
    server = served(**RETRAIN)
    tell(server, 200)
    for _ in range(4):
        look(server)
    (made,) = server.status["monitoring"]["retrainings"]
    assert made["state"] == "Created"
    assert len(events(server, "Retrains")) == 1
    # Whoever cleans finished jobs away has not asked for another one.
    del server.objects["FineTuneJob", "ns", made["job"]]
    for _ in range(10):
        look(server)

    assert jobs(server) == []


def test_a_job_that_cannot_be_copied_is_told_and_made_once_it_can() -> None:
    server = served(**RETRAIN)
    del server.objects["FineTuneJob", "ns", "helpdesk"]
    tell(server, 200)
    for _ in range(4):
        after_s = look(server)
    assert "no FineTuneJob 'helpdesk'" in condition(server.status, "DriftDetected")["message"]
    assert after_s is not None
    assert after_s <= 66
    server.put(json.loads(json.dumps(TEMPLATE)))
    look(server)

    assert len(jobs(server)) == 1


def test_a_mismatch_is_told_with_its_nats_and_taken_back_where_asked() -> None:
    server = served(onDrift={"artifact": ["alert", "rollback"]})
    server.publish("v2")
    for _ in range(12):
        look(server)
    assert server.status["stable"]["version"] == "v2"
    stable = server.status["stable"]["revision"]
    probe = ProbeEvidence(probes=20, tokens=900, worst_nats=2.5, mean_nats=1.25, age_seconds=3)
    message = "log-probabilities of 20 known answers differ by 1.250 nats in the mean"

    async def states(hosts: Mapping[str, str]) -> dict[str, Any]:
        return {
            name: READY.model_copy(
                update={
                    "revision": name.split("-")[-2],
                    **(
                        {
                            "ready": False,
                            "reason": ReadyReason.FINGERPRINT_MISMATCH,
                            "message": message,
                            "probe": probe,
                        }
                        if stable in name
                        else {}
                    ),
                }
            )
            for name in hosts
        }

    server.replicas.states = states  # type: ignore[method-assign]
    look(server)
    told = condition(server.status, "ArtifactMismatch")
    artifact = server.status["monitoring"]["artifact"]
    assert (told["status"], told["reason"]) == ("True", "FingerprintMismatch")
    assert "1.250 nats" in told["message"]
    assert (artifact["worstNats"], artifact["probes"]) == (2.5, 20)
    assert any("1 replicas of v2" in told for told in events(server, "FingerprintMismatch"))
    for _ in range(12):
        look(server)

    assert server.status["stable"]["version"] == "v1"
    assert [entry["version"] for entry in server.status["rejected"]] == ["v2"]


def test_a_gap_between_groups_that_has_grown_is_told_of_the_worst_replica() -> None:
    server = served()
    growths = iter((0.2, 0.01) * 50)

    async def states(hosts: Mapping[str, str]) -> dict[str, Any]:
        return {
            name: READY.model_copy(
                update={"revision": name.split("-")[-2], "probe": biased(next(growths))}
            )
            for name in hosts
        }

    server.replicas.states = states  # type: ignore[method-assign]
    look(server)

    told = condition(server.status, "BiasGrown")
    assert (told["status"], told["reason"]) == ("True", "BiasGrown")
    assert (
        "crows from 0.100 to 0.300 nats a token (growth 0.200 to 0.210, 12 pairs)"
        in (told["message"])
    )
    (bias,) = server.status["monitoring"]["artifact"]["bias"]
    assert (bias["suite"], bias["grown"], bias["lowNats"]) == ("crows", True, 0.2)


def biased(low: float) -> ProbeEvidence:
    bias = BiasEvidence(
        suite="crows",
        pairs=12,
        released_nats=0.1,
        nats=0.3,
        growth_nats=0.2,
        low_nats=low,
        high_nats=low + 0.01,
    )
    return ProbeEvidence(
        probes=20, tokens=900, worst_nats=0.0, mean_nats=0.0, age_seconds=3, bias=(bias,)
    )
