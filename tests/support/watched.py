"""A deployment as somebody sees it who watches: sightings, one after the other, with no process."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from tunesmith_api.conditions import Condition
from tunesmith_api.modeldeployment.monitoring_status import (
    ArtifactStatus,
    CostStatus,
    MonitoringStatus,
    SignalDrift,
    SloStatus,
    TrafficStatus,
)
from tunesmith_api.modeldeployment.slo import BOUNDARIES
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import (
    CandidateStatus,
    MetricEvidence,
    ModelDeploymentStatus,
    RevisionStatus,
    VerdictStatus,
)
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.monitoring.replica_metrics import ReplicaMetrics, added_up
from tunesmith_engine.monitoring.sighting import ReplicaSighting, Sighting

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
STABLE, CANDIDATE = "0a0a0a0a", "0b0b0b0b"
SPEC = ModelDeploymentSpec.model_validate(
    {
        "model": "helpdesk",
        "slo": {"availability": {"objective": 0.999}, "ttft": {"seconds": 0.5}},
        "cost": {"pricePerAcceleratorHour": 3.2},
        "resources": {"gpusPerReplica": 1},
    }
)
STEP_S = 5.0


def report(revision: str = STABLE, **fields: Any) -> ReplicaReport:
    """What a sound replica says of itself."""
    known: dict[str, Any] = {
        "revision": revision,
        "instance": "i1",
        "ready": True,
        "draining": False,
        "reason": "Ready",
        "message": "",
        "running": 2,
        "accepted": 100,
        "quietSeconds": 0.1,
        "uptimeSeconds": 900.0,
    }
    return ReplicaReport.model_validate({**known, **fields})


def counted(num: int, *, ttft: float, itl: float = 0.02, seed: int = 0) -> ReplicaMetrics:
    """What `num` requests of about these times leave behind."""
    chance = random.Random(seed)

    def histogram(median: float) -> dict[float, float]:
        bins: dict[float, float] = {}
        for _ in range(num):
            seconds = median * chance.lognormvariate(0, 0.45)
            upper = next(bound for bound in BOUNDARIES if bound >= seconds)
            bins[upper] = bins.get(upper, 0) + 1
        return bins

    outcomes = dict.fromkeys(("error", "incomplete", "rejected", "cancelled"), 0.0)
    outcomes["error"] = float(sum(chance.random() < 0.004 for _ in range(num)))
    return ReplicaMetrics(
        outcomes={**outcomes, "complete": num - outcomes["error"]},
        ttft=histogram(ttft),
        itl=histogram(itl),
        tokens=num * 60.0,
    )


def sighting(index: int, **changes: Any) -> Sighting:
    """The look number `index` at a deployment in which nothing has been counted."""
    fields: dict[str, Any] = {
        "name": "helpdesk",
        "time": NOW + timedelta(seconds=STEP_S * index),
        "seconds": STEP_S * index,
        "spec": SPEC,
        "status": status(),
    }
    return Sighting(**{**fields, **changes})


def rollout(num_looks: int, *, end: datetime = NOW) -> Iterator[Sighting]:
    """A canary: stable alone, then the candidate with 5, 25 and 50 percent, a little slower."""
    totals = {STABLE: ReplicaMetrics(), CANDIDATE: ReplicaMetrics()}
    for index in range(num_looks):
        part = index / num_looks
        weight = 0 if part < 0.3 else 5 if part < 0.45 else 25 if part < 0.7 else 50
        busy = 60 + int(25 * random.Random(index).random())
        for revision, share, ttft in ((STABLE, 100 - weight, 0.11), (CANDIDATE, weight, 0.14)):
            num = round(busy * share / 100)
            fresh = counted(num, ttft=ttft, seed=1000 * index + share)
            totals[revision] = added_up([totals[revision], fresh])
        replicas = [
            ReplicaSighting(f"{revision}-0", revision, report(revision), totals[revision])
            for revision in (STABLE, CANDIDATE)[: 1 if weight == 0 else 2]
        ]
        yield sighting(
            index,
            time=end - timedelta(seconds=STEP_S * (num_looks - 1 - index)),
            status=status(weight, drift=part),
            replicas=tuple(replicas),
        )


def status(weight: int | None = None, *, drift: float = 0.0) -> ModelDeploymentStatus:
    """Stable alone, or beside a candidate of that weight."""
    shared: dict[str, Any] = {
        "digest": "sha256:1",
        "uri": "file:///v",
        "replicas": 1,
        "ready_replicas": 1,
        "since": NOW - timedelta(hours=2),
    }
    share = weight or 0
    stable = RevisionStatus(
        revision=STABLE,
        version="3f2a9c",
        weight=100 - share,
        achieved_weight=100.0 - share,
        **shared,
    )
    candidate = CandidateStatus(
        revision=CANDIDATE,
        version="81d07e",
        weight=share,
        achieved_weight=float(share),
        strategy="canary",
        state="Analyzing",
        **shared,
    )
    phase, reason = ("Progressing", "Analyzing") if weight else ("Serving", "Serving")
    message = f"81d07e: step 2 of 3, {share} %" if weight else "3f2a9c answers all requests"
    conditions = [
        Condition(type=kind, status="True", reason=why, message=said, last_transition_time=NOW)
        for kind, why, said in (
            ("Available", reason, message),
            ("Ready", reason, message),
            ("SLOBurning", "BudgetBurning", "ttft: the last hour used 17.2 times its budget"),
        )
    ]
    return ModelDeploymentStatus(
        phase=phase,
        conditions=conditions,
        stable=stable,
        candidate=candidate if weight else None,
        last_verdict=_verdict() if weight else None,
        monitoring=_monitoring(drift),
        endpoint="http://127.0.0.1:8000/v1",
    )


def _verdict() -> VerdictStatus:
    rows = (
        ("errors", 0.0006, -0.004, 0.006, 0.7, 14.2),
        ("incomplete", 0.0, -0.003, 0.003, 0.6, 18.9),
        ("ttftP50", 0.27, 0.11, 0.4, 6.1, 0.4),
        ("itlP50", 0.01, -0.05, 0.08, 0.9, 9.5),
    )
    return VerdictStatus(
        version="81d07e",
        revision=CANDIDATE,
        decision="inconclusive",
        cause="EvidencePending",
        message="about 240 more requests would settle ttftP50.",
        time=NOW,
        evidence=[
            MetricEvidence(
                metric=metric,
                effect=effect,
                lower=lower,
                upper=upper,
                harm=harm,
                promotion=promotion,
                stable=912,
                candidate=288,
            )
            for metric, effect, lower, upper, harm, promotion in rows
        ],
    )


def _monitoring(part: float) -> MonitoringStatus:
    signals = (("promptTokens", 4.5, 0.11), ("scriptShare", 12.9, 0.34), ("refusal", 0.8, 0.03))
    return MonitoringStatus(
        time=NOW,
        traffic=TrafficStatus(
            version="3f2a9c",
            since=NOW - timedelta(hours=2),
            requests=4210,
            threshold_log_e=11.5,
            signals=[
                SignalDrift(signal=name, log_e=part * most, effect=effect * part)
                for name, most, effect in signals
            ],
            drifted=["scriptShare"] if part * 12.9 > 11.5 else [],
        ),
        artifact=ArtifactStatus(version="3f2a9c", worst_nats=0.0021, probes=412, at=NOW),
        slos=[
            SloStatus(name="availability", objective=0.999, burn_rate=0.6, budget_remaining=0.83),
            SloStatus(
                name="ttft", objective=0.99, burn_rate=17.2, budget_remaining=0.06, burning=True
            ),
        ],
        cost=CostStatus(
            price_per_accelerator_hour=3.2,
            accelerator_hours=48.5,
            per_million_tokens=0.41 + 0.1 * part,
            per_request=0.000062,
        ),
    )
