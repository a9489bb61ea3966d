"""The PrometheusRule of a deployment: made, changed, taken away, and never somebody else's."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from api_double import ApiDouble
from attempts import SETTINGS
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_operator.modeldeployment.deployment_ref import DeploymentRef
from tunesmith_operator.modeldeployment.slo_rules import FRESH_S, SloRules

OWNER = DeploymentRef("helpdesk", "ns", "uid-1")
KEY = ("PrometheusRule", "ns", "helpdesk")
WATCHED = replace(SETTINGS, runbook_url="https://wiki", rule_labels={"release": "prometheus"})
SLO = {"availability": {"objective": 0.999}}


class Time:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> ApiDouble:
    return ApiDouble("PrometheusRule")


def spec(slo: dict[str, Any] | None = None) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": "helpdesk", "slo": slo})


def test_an_slo_gets_rules_that_prometheus_finds_and_that_go_with_the_deployment(
    server: ApiDouble,
) -> None:
    asyncio.run(SloRules(server, WATCHED).make(OWNER, spec(SLO)))

    metadata = server.objects[KEY]["metadata"]
    assert metadata["labels"]["release"] == "prometheus"
    assert metadata["ownerReferences"][0]["uid"] == OWNER.uid
    assert len(server.objects[KEY]["spec"]["groups"]) == 2


def test_rules_go_with_the_slo(server: ApiDouble) -> None:
    rules = SloRules(server, WATCHED)
    asyncio.run(rules.make(OWNER, spec(SLO)))
    asyncio.run(rules.make(OWNER, spec()))

    assert KEY not in server.objects


def test_what_somebody_deleted_is_there_again_after_minutes(server: ApiDouble) -> None:
    """Not at every look: a rollout has one every few seconds."""
    time = Time()
    rules = SloRules(server, WATCHED, clock=time)
    asyncio.run(rules.make(OWNER, spec(SLO)))
    asyncio.run(server.delete(*KEY))
    asyncio.run(rules.make(OWNER, spec(SLO)))
    assert KEY not in server.objects

    time.now = FRESH_S
    asyncio.run(rules.make(OWNER, spec(SLO)))
    assert KEY in server.objects


def test_rules_of_that_name_that_are_somebody_elses_are_left_alone(
    server: ApiDouble, caplog: pytest.LogCaptureFixture
) -> None:
    server.put(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "helpdesk", "namespace": "ns"},
            "spec": {"groups": []},
        }
    )
    asyncio.run(SloRules(server, WATCHED).make(OWNER, spec(SLO)))
    asyncio.run(SloRules(server, WATCHED).make(OWNER, spec()))

    assert server.objects[KEY]["spec"] == {"groups": []}
    assert "a PrometheusRule of this name is not ours" in caplog.text


@pytest.mark.parametrize("settings", [WATCHED, SETTINGS])
def test_nothing_is_made_where_nobody_wants_or_knows_rules(settings: Any) -> None:
    server = ApiDouble(*(["PrometheusRule"] if settings is SETTINGS else []))
    asyncio.run(SloRules(server, settings).make(OWNER, spec(SLO)))

    assert KEY not in server.objects
