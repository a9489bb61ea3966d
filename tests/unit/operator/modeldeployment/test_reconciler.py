"""One look at a deployment: what is stored, what is made, what is said when it cannot be."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException
from prometheus_client import CollectorRegistry

from attempts import SETTINGS
from deployment_double import KEY, DeploymentDouble
from model_deployments import condition
from tunesmith_operator.kube.api_errors import FORBIDDEN, UNPROCESSABLE

KEY_OF = ("ModelDeployment", "ns", "helpdesk")
QUOTA = '{"message": "exceeded quota: small"}'


def looks(double: DeploymentDouble, count: int = 8) -> None:
    async def run() -> None:
        for _ in range(count):
            await double.look()

    asyncio.run(run())


def serving(*kinds: str, **spec: Any) -> DeploymentDouble:
    double = DeploymentDouble(*kinds, **spec)
    double.publish("v1")
    looks(double)
    return double


def test_a_version_is_served_behind_a_service_of_the_deployments_name() -> None:
    double = serving(replicas=2)
    revision = double.status["stable"]["revision"]

    assert double.status["phase"] == "Serving"
    assert double.names("Deployment") == [f"helpdesk-{revision}"]
    assert set(double.names("Service")) == {"helpdesk", f"helpdesk-{revision}"}
    assert double.names("PodDisruptionBudget") == [f"helpdesk-{revision}"]
    front = double.objects["Service", "ns", "helpdesk"]["spec"]
    assert front["selector"]["tunesmith.dev/revision"] == revision
    assert double.status["selector"] == "tunesmith.dev/deployment=helpdesk"


def test_the_next_version_takes_over_and_the_one_before_goes() -> None:
    double = serving()
    before = double.status["stable"]["revision"]
    double.publish("v2")
    looks(double, 12)

    assert double.status["stable"]["version"] == "v2"
    assert before not in str(double.names("Deployment"))
    assert len(double.names("Service")) == 2


def test_a_look_at_what_is_as_wanted_writes_nothing() -> None:
    double = serving()
    before = {key: item["metadata"]["resourceVersion"] for key, item in double.objects.items()}
    looks(double, 3)

    after = {key: item["metadata"]["resourceVersion"] for key, item in double.objects.items()}
    assert after == before


def test_replicas_move_and_the_pods_stay_as_they_were_made() -> None:
    double = serving()
    (name,) = double.names("Deployment")
    made = double.objects["Deployment", "ns", name]["spec"]["template"]
    double.change("ModelDeployment", "ns", "helpdesk", {"spec": {"replicas": 3}})
    looks(double, 3)

    scaled = double.objects["Deployment", "ns", name]["spec"]
    assert (scaled["replicas"], scaled["template"]) == (3, made)


def test_what_somebody_took_away_is_made_again() -> None:
    double = serving()
    for kind in ("Deployment", "Service", "PodDisruptionBudget"):
        for name in double.names(kind):
            del double.objects[kind, "ns", name]
    looks(double, 4)

    assert double.status["phase"] == "Serving"
    assert len(double.names("Service")) == 2


def test_a_deployment_of_somebody_else_is_left_as_it_is() -> None:
    double = DeploymentDouble()
    double.publish("v1")
    asyncio.run(double.look())
    (name,) = double.names("Deployment")
    other = {"metadata": {"ownerReferences": [{"uid": "other"}]}, "spec": {"replicas": 7}}
    double.change("Deployment", "ns", name, other)
    looks(double, 4)

    assert condition(double.status, "Ready")["reason"] == "OwnedByAnother"
    assert double.objects["Deployment", "ns", name]["spec"]["replicas"] == 7


def test_a_deployment_that_goes_is_left_to_the_garbage_collector() -> None:
    double = serving()
    double.change("ModelDeployment", "ns", "helpdesk", {"metadata": {"deletionTimestamp": "now"}})

    assert asyncio.run(double.reconciler.reconcile(KEY)) is None


def test_a_spec_of_another_release_is_told_of_and_what_serves_goes_on() -> None:
    double = serving()
    double.change("ModelDeployment", "ns", "helpdesk", {"spec": {"colour": "red"}})
    looks(double, 2)

    assert condition(double.status, "Stalled")["reason"] == "InvalidSpec"
    assert "colour" in condition(double.status, "Stalled")["message"]
    assert double.status["stable"]["version"] == "v1"
    assert len(double.names("Deployment")) == 1


@pytest.mark.parametrize("status", [400, FORBIDDEN, 404, 413, UNPROCESSABLE])
def test_what_the_server_refuses_is_told_of_and_tried_again(status: int) -> None:
    class Refusing(DeploymentDouble):
        async def create(self, manifest: dict[str, Any]) -> bool:
            if manifest["kind"] == "Deployment":
                raise ApiException(status=status, reason=f"POST /x: {QUOTA}")
            return await super().create(manifest)

    double = Refusing()
    double.publish("v1")
    with pytest.raises(ApiException):
        asyncio.run(double.look())

    assert condition(double.status, "Ready")["reason"] == "Forbidden"
    assert "exceeded quota" in condition(double.status, "Ready")["message"]
    assert condition(double.status, "Stalled")["status"] == "False"


def test_versions_lead_to_the_deployments_that_follow_their_model() -> None:
    double = serving()

    def followers(**spec: Any) -> list[Any]:
        version = {"metadata": {"namespace": "ns"}, "spec": {"model": "helpdesk", **spec}}
        return double.reconciler.followers(version)

    assert followers() == [KEY]
    assert followers(model="other") == []


def test_metrics_are_of_what_there_is_and_go_with_the_deployment() -> None:
    double = serving()
    registry = CollectorRegistry()
    for collector in double.metrics.collectors:
        registry.register(collector)

    def weights() -> dict[str, float]:
        return {
            sample.labels["version"]: sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "tunesmith_deployment_weight_ratio"
        }

    assert weights() == {"v1": 1.0}
    double.publish("v2")
    looks(double, 12)
    assert weights() == {"v2": 1.0}
    del double.objects[KEY]
    asyncio.run(double.new_operator().reconcile(KEY))
    assert weights() == {}


def test_a_phase_is_told_as_an_event() -> None:
    double = serving()
    reasons = [item["reason"] for key, item in double.objects.items() if key[0] == "Event"]

    assert reasons[-1] == "Serving"
    assert len(reasons) == len(set(reasons))


def test_replicas_of_stable_are_the_scalers_alone_and_others_are_ours() -> None:
    double = DeploymentDouble("ScaledObject", autoscaling={"maxReplicas": 4})
    double.use(replace(SETTINGS, prometheus_url="http://prometheus:9090"))
    double.publish("v1")
    looks(double)
    (name,) = double.names("ScaledObject")
    double.change("Deployment", "ns", name, {"spec": {"replicas": 4}})
    looks(double, 3)
    assert double.objects["Deployment", "ns", name]["spec"]["replicas"] == 4
    double.publish("v2")
    looks(double, 12)
    assert double.names("ScaledObject") == [f"helpdesk-{double.status['stable']['revision']}"]
    double.change("ModelDeployment", "ns", "helpdesk", {"spec": {"autoscaling": None}})
    looks(double, 3)

    (name,) = double.names("Deployment")
    assert double.names("ScaledObject") == []
    assert double.objects["Deployment", "ns", name]["spec"]["replicas"] == 1


def test_a_deployment_that_lost_a_field_is_left_alone_and_told_of() -> None:
    """A demand for signatures that the definitions of an older release drop, for one."""
    double = serving()
    owned: Any = {"f:spec": {"f:verification": {"f:publicKeys": {}}}}
    notes = {"metadata": {"managedFields": [{"operation": "Apply", "fieldsV1": owned}]}}
    double.change(*KEY_OF, notes)
    before = double.objects[KEY_OF]
    double.publish("v2")
    looks(double)
    said = [each["message"] for each in double.objects.values() if each["kind"] == "Event"]

    assert double.objects[KEY_OF] == before
    assert len(double.names("Deployment")) == 1
    assert any(each.startswith("spec.verification was given under another") for each in said)
