"""The PrometheusRule of a deployment on a real API server, whose schema it has to satisfy."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client, config

from attempts import SETTINGS
from cluster import Cluster, kubectl
from promtool import promtool, write_rules
from tunesmith_api.base import API_VERSION
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_operator.kube.client import ApiServer
from tunesmith_operator.modeldeployment.deployment_ref import MODEL_DEPLOYMENT, DeploymentRef
from tunesmith_operator.modeldeployment.slo_rules import SloRules

SPEC = {"model": "helpdesk", "slo": {"availability": {}, "ttft": {"seconds": 1.5}}}
WATCHED = replace(SETTINGS, runbook_url="https://wiki", rule_labels={"release": "prometheus"})


@pytest.fixture(autouse=True)
def prometheus_operator() -> None:
    if "monitoring.coreos.com/v1" not in kubectl("api-versions").splitlines():
        pytest.skip("the kinds of Prometheus' operator are not installed in this cluster")


def run(play: Callable[[SloRules], Coroutine[Any, Any, None]]) -> None:
    """Play something with a client of the cluster."""

    async def connected() -> None:
        await config.load_kube_config()  # type: ignore[no-untyped-call]
        async with client.ApiClient() as api:
            await play(SloRules(ApiServer(api, [MODEL_DEPLOYMENT]), WATCHED))

    asyncio.run(connected())


def test_the_rules_of_a_deployment_come_and_go_with_its_slo(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.create(
        {
            "apiVersion": API_VERSION,
            "kind": "ModelDeployment",
            "metadata": {"name": "helpdesk"},
            "spec": SPEC,
        }
    ).raise_for_status()
    made = json.loads(cluster.kubectl("get", "modeldeployment/helpdesk", "--output=json"))
    owner = DeploymentRef.of(made)
    spec = ModelDeploymentSpec.model_validate(made["spec"])

    run(lambda rules: rules.make(owner, spec))

    rule = json.loads(cluster.kubectl("get", "prometheusrule/helpdesk", "--output=json"))
    promtool("check", "rules", str(write_rules(tmp_path / "rules.yaml", rule["spec"]["groups"])))
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert [each["uid"] for each in rule["metadata"]["ownerReferences"]] == [owner.uid]
    run(lambda rules: rules.make(owner, spec.model_copy(update={"slo": None})))
    cluster.kubectl("wait", "--for=delete", "prometheusrule/helpdesk", "--timeout=20s")
