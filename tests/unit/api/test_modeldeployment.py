"""ModelDeployment: the CRD and the models are one definition, and its rules say what to do."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from admission import refusals, with_defaults
from manifests import a_deployment, broken_deployments, deployments, schema_of, values_of
from tunesmith_api.manifest import ManifestError, load_resource
from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus

SCHEMA = schema_of("ModelDeployment")
STATUS = SCHEMA["properties"]["status"]
GENEROUS = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


A_QUERY = {"name": "thumbsDown", "query": "thumbs{v='{{version}}'}", "minimumEffect": 0.1}


def _with_query(**fields: Any) -> dict[str, Any]:
    query = {name: value for name, value in {**A_QUERY, **fields}.items() if value is not None}
    return {"rollout": {"analysis": {"queries": [query]}}}


def problems_of(manifest: dict[str, Any]) -> list[str]:
    try:
        load_resource(json.dumps(manifest, ensure_ascii=False), ModelDeployment)
    except ManifestError as error:
        return str(error).splitlines()
    return []


@GENEROUS
@given(manifest=deployments() | broken_deployments())
def test_schema_and_models_give_the_same_verdict(manifest: dict[str, Any]) -> None:
    by_models, by_schema = problems_of(manifest), refusals(SCHEMA, manifest)

    assert bool(by_models) == bool(by_schema), (by_models, by_schema)


@GENEROUS
@given(manifest=deployments())
def test_schema_and_models_fill_in_the_same_defaults(manifest: dict[str, Any]) -> None:
    if problems_of(manifest):
        return

    stored = with_defaults(SCHEMA, manifest)["spec"]

    deployment = ModelDeployment.model_validate(manifest)
    assert stored == deployment.spec.model_dump(mode="json", by_alias=True, exclude_none=True)


@GENEROUS
@given(status=values_of(STATUS))
def test_models_read_every_status_that_the_schema_lets_pass(status: dict[str, Any]) -> None:
    assert not refusals(STATUS, status)

    ModelDeploymentStatus.model_validate_json(json.dumps(status))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"rollout": {"steps": [{"weight": 50}, {"weight": 25}]}}, "weights of steps have to grow"),
        ({"rollout": {"steps": []}}, "rollout.steps"),
        ({"rollout": {"steps": [{"weight": 0}]}}, "rollout.steps[0].weight"),
        ({"rollout": {"strategy": "rolling"}}, "rollout.strategy"),
        ({"rollout": {"analysis": {"deadlineSeconds": 30}}}, "raise it"),
        ({"rollout": {"analysis": {"metrics": {"latency": {}}}}}, "latency"),
        (_with_query(minimumEffect=None), "give one of them"),
        (_with_query(query="up"), "has to give each version a number of its own"),
        (_with_query(query="up{v='{{models}}'}"), "queries[0].query"),
        (_with_query(name="Thumbs down"), "queries[0].name"),
        (_with_query(minimumEffect=0), "minimumEffect"),
        ({"rollout": {"analysis": {"queries": [A_QUERY] * 2}}}, "names of queries have to differ"),
        ({"adapters": {}, "rollout": {"strategy": "shadow"}}, "choose canary"),
        (
            {"adapters": {}, "rollout": {"analysis": {"metrics": {"qualityLoss": {}}}}},
            "leave qualityLoss out",
        ),
        ({"adapters": {"maxRank": 17}}, "maxRank"),
        ({"replicas": 0}, "replicas"),
        ({"replica": 2}, "did you mean 'replicas'?"),
        ({"version": "Ü"}, "version"),
        ({"resources": {"tolerations": [{}]}}, "tolerations"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_both(spec: dict[str, Any], told: str) -> None:
    manifest = a_deployment(**spec)

    assert refusals(SCHEMA, manifest)
    assert any(told in problem for problem in problems_of(manifest)), problems_of(manifest)


def test_the_smallest_deployment_follows_the_newest_version() -> None:
    deployment = ModelDeployment.model_validate(a_deployment())

    assert deployment.spec.version is None
    assert deployment.spec.replicas == 1
    assert [step.weight for step in deployment.spec.rollout.steps] == [5, 25, 50]
