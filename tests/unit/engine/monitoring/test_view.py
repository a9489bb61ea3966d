"""What people are shown: shares of what was answered, and why something is not there."""

from typing import Any

import pytest

from tunesmith_api.conditions import Condition
from tunesmith_api.modeldeployment.monitoring_status import (
    CostStatus,
    MonitoringStatus,
    TrafficStatus,
)
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.monitoring.replica_metrics import ReplicaMetrics
from tunesmith_engine.monitoring.sighting import ReplicaSighting
from tunesmith_engine.monitoring.view import traffic_of, view_of
from watched import NOW, STABLE, report, sighting, status

BARE = ModelDeploymentSpec(model="helpdesk")


def test_shares_are_of_what_was_answered() -> None:
    counts = {
        "complete": 90.0,
        "error": 6.0,
        "incomplete": 4.0,
        "rejected": 50.0,
        "cancelled": 10.0,
    }

    traffic = traffic_of(ReplicaMetrics(outcomes=counts, tokens=600), seconds=10)

    assert (traffic.errors, traffic.incomplete) == (0.06, 0.04)
    assert (traffic.requests_per_second, traffic.tokens_per_second) == (16, 60)
    assert (traffic.rejected_per_second, traffic.cancelled_per_second) == (5, 1)


def test_without_answers_no_share_is_told() -> None:
    traffic = traffic_of(ReplicaMetrics(outcomes={"complete": 0.0}), seconds=10)

    assert traffic.errors is None
    assert traffic.ttft is None


def test_what_asks_for_a_look_is_a_warning() -> None:
    view = view_of(sighting(0), counted={}, seconds=0)

    assert [warned.types for warned in view.warnings] == [["SLOBurning"]]
    assert view.is_available


def test_what_two_conditions_say_is_said_once() -> None:
    said = {"reason": "R", "message": "v2 is gone", "lastTransitionTime": NOW}
    rolled_back = [
        Condition.model_validate({"type": kind, "status": flag, **said})
        for kind, flag in (("Ready", "False"), ("RolledBack", "True"), ("Stalled", "True"))
    ]
    seen = sighting(0, status=status().model_copy(update={"conditions": rolled_back}))

    (warned,) = view_of(seen, counted={}, seconds=0).warnings

    assert (warned.types, warned.message) == (["RolledBack", "Stalled"], "")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"is_served": False}, "traffic", "nothing serves it now"),
        ({}, "traffic", "no replica answers yet"),
        ({"unread": "pods cannot be listed"}, "traffic", "pods cannot be listed"),
        ({"status": ModelDeploymentStatus()}, "verdict", "no rollout was judged yet"),
        ({"status": ModelDeploymentStatus(), "spec": BARE}, "slos", "spec.slo says"),
        ({"status": ModelDeploymentStatus()}, "drift", "about a minute after"),
    ],
)
def test_what_is_missing_is_said(changes: dict[str, Any], field: str, said: str) -> None:
    view = view_of(sighting(0, **changes), counted={}, seconds=0)

    assert said in getattr(view.missing, field)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("NoReference", "no reference: version v1 was published without the statistics"),
        ("ReferenceOfAnotherVersion", "another version's; publish it again"),
        ("NoTraffic", "no requests yet"),
        ("ReasonOfALaterRelease", "ReasonOfALaterRelease"),
    ],
)
def test_why_nothing_is_known_of_drift_is_said(reason: str, said: str) -> None:
    watched = MonitoringStatus(
        traffic=TrafficStatus(version="v1", reason=reason), cost=CostStatus(message="no price")
    )
    seen = sighting(0, status=status().model_copy(update={"monitoring": watched}))

    missing = view_of(seen, counted={}, seconds=0).missing

    assert said in missing.drift
    assert missing.cost == "no price"


def test_replicas_tell_how_they_are() -> None:
    hung = report(ready=False, reason="NoProgress", message="no token for 60 s")
    seen = sighting(
        0,
        replicas=(
            ReplicaSighting("b", STABLE, hung),
            ReplicaSighting("a", STABLE, report()),
            ReplicaSighting("c", STABLE, restarts=2, message="has ended"),
        ),
    )

    rows = view_of(seen, counted={}, seconds=0).replicas

    assert [(row.name, row.state, row.message) for row in rows] == [
        ("a", "Ready", ""),
        ("b", "NoProgress", "no token for 60 s"),
        ("c", "NoAnswer", "has ended"),
    ]
    assert rows[2].restarts == 2
