"""Everything that is made for a deployment is free of the known traps, and each trap is seen."""

from collections.abc import Callable
from typing import Any

import pytest

from deployment_world import a_spec
from tunesmith_engine.deployment.observations import DesiredRevision, Route
from tunesmith_engine.stages.contracts import Environment
from tunesmith_operator.modeldeployment.deployment_ref import DeploymentRef
from tunesmith_operator.modeldeployment.front_service import front_service
from tunesmith_operator.modeldeployment.http_route import http_route
from tunesmith_operator.modeldeployment.manifests import (
    deployment_of,
    disruption_budget,
    revision_service,
)
from tunesmith_operator.modeldeployment.serving_lint import lint_serving
from tunesmith_operator.settings import Settings

OWNER = DeploymentRef("helpdesk", "ns", "u")
SETTINGS = Settings(images={each: f"{each}:1" for each in Environment})
URIS = {
    "volume": "file:///workspace/models/helpdesk/v1",
    "store": "s3://models/helpdesk/v1",
    "image": "oci://registry/helpdesk@sha256:00",
}
SPECS: list[dict[str, Any]] = [
    {},
    {"apiKeys": {"name": "keys"}, "rollout": {"drainSeconds": 1}},
    {"resources": {"gpusPerReplica": 2, "accelerator": "amd.com/gpu", "memory": "8Gi"}},
    {"storage": {"secretRef": {"name": "bucket"}}, "rollout": {"drainSeconds": 3600}},
]


def revision(uri: str) -> DesiredRevision:
    return DesiredRevision("0a1b2c3d", "v1", "sha256:0", uri, replicas=2, claim_name="models")


def rendered(uri: str, spec: dict[str, Any]) -> dict[str, Any]:
    return deployment_of(
        revision(uri), a_spec(**spec), owner=OWNER, settings=SETTINGS, num_bytes=1 << 30
    )


def pod(uri: str = URIS["store"], **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = rendered(uri, spec)["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("uri", URIS.values(), ids=URIS)
@pytest.mark.parametrize("spec", SPECS)
def test_what_is_made_has_no_known_trap(uri: str, spec: dict[str, Any]) -> None:
    wanted = a_spec(**spec, gateway={"name": "public"})
    route = Route({"0a1b2c3d": 90, "11111111": 10}, "11111111", 5)
    made = [
        rendered(uri, spec),
        revision_service(revision(uri), owner=OWNER),
        disruption_budget(revision(uri), owner=OWNER),
        http_route(OWNER, wanted, route),
        front_service(OWNER, wanted, route),
    ]

    assert [problem for manifest in made for problem in lint_serving(manifest)] == []


def server(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


DEV_MODE = "VLLM_SERVER_DEV_MODE"
TRAPS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("SIGKILL", lambda m: m["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=310)),
    ("SIGTERM comes", lambda m: server(m).pop("lifecycle")),
    ("aborts what runs", lambda m: server(m).update(command=["serve", "--shutdown-timeout", "0"])),
    (
        "no API key",
        lambda m: server(m)["env"].append({"name": "VLLM_SERVER_DEV_MODE", "value": "1"}),
    ),
    ("a secret", lambda m: server(m)["env"].append({"name": "VLLM_API_KEY", "value": "k"})),
    ("/health is 200", lambda m: server(m)["readinessProbe"]["httpGet"].update(path="/health")),
    ("impatient", lambda m: server(m)["livenessProbe"].update(timeoutSeconds=1)),
    ("takes a replica", lambda m: m["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1)),
    ("VLLM_PORT", lambda m: m["spec"]["template"]["spec"].pop("enableServiceLinks")),
    ("shared memory", lambda m: m["spec"]["template"]["spec"]["volumes"].pop()),
]


@pytest.mark.parametrize(("told", "spoil"), TRAPS, ids=[told for told, _ in TRAPS])
def test_each_trap_is_seen(told: str, spoil: Callable[[dict[str, Any]], object]) -> None:
    manifest = rendered(URIS["store"], {})
    # The settings of security and placement are shared by all pods; what is spoilt here is not.
    spoil(manifest)

    assert any(told in problem for problem in lint_serving(manifest))


def test_a_route_or_service_that_lets_more_than_the_api_in_is_seen() -> None:
    wanted = a_spec(gateway={"name": "public"})
    route = http_route(OWNER, wanted, Route({"0a1b2c3d": 100}))
    route["spec"]["rules"][0]["matches"][0]["path"]["value"] = "/"
    front = front_service(OWNER, wanted, Route())
    front["spec"]["type"] = "LoadBalancer"

    assert "other paths" in lint_serving(route)[0]
    assert "from outside" in lint_serving(front)[0]


def test_the_files_come_from_where_the_version_lies() -> None:
    volume, store, image = (pod(uri, storage={"secretRef": {"name": "b"}}) for uri in URIS.values())

    assert volume["volumes"][0]["persistentVolumeClaim"] == {
        "claimName": "models",
        "readOnly": True,
    }
    assert "/workspace/models/helpdesk/v1" in volume["containers"][0]["command"]
    (fetch,) = store["initContainers"]
    assert fetch["command"][3:5] == ["fetch", URIS["store"]]
    assert "sha256:0" in fetch["command"]
    assert image["volumes"][0]["image"]["reference"] == "registry/helpdesk@sha256:00"
    # Credentials of the store are for the download alone.
    mounted = [mount["name"] for mount in store["containers"][0]["volumeMounts"]]
    assert "credentials" not in mounted


def test_accelerators_are_asked_for_by_their_name_and_keys_come_from_the_secret() -> None:
    made = pod(
        resources={"gpusPerReplica": 2, "accelerator": "amd.com/gpu", "nodeSelector": {"a": "b"}},
        apiKeys={"name": "keys"},
    )
    container = made["containers"][0]

    assert container["resources"]["limits"] == {"amd.com/gpu": "2"}
    assert container["resources"]["requests"]["memory"] == str(5 << 30)
    assert {"name": "keys", "key": "api-key"} in [
        variable.get("valueFrom", {}).get("secretKeyRef") for variable in container["env"]
    ]
    assert made["nodeSelector"] == {"a": "b"}
