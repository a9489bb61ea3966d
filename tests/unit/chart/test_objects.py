"""What a release holds: hardened pods, stable selectors, definitions that outlive it."""

import argparse
from typing import Any

import pytest

from chart import EVERYTHING, chart, container, one, rendered
from tunesmith_api.crds import crds
from tunesmith_engine.stages.contracts import Environment
from tunesmith_engine.stages.correction_policy import CORRECTION_POLICY, correction_policy
from tunesmith_operator.finetunejob.child_names import (
    JOB_MARK,
    LABEL_STAGE,
    REPORT_POLICY,
    STAGES_ACCOUNT,
    shared_name,
)
from tunesmith_operator.finetunejob.manifests import TRAINING_METRICS
from tunesmith_operator.settings import Settings, add_flags, settings_from

POLICY = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
NAMESPACED = {"namespaces": ["team-a", "team-b"]}


def definitions(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in rendered(values) if each["kind"] == "CustomResourceDefinition"]


def settings_of(values: dict[str, Any], *, namespace: str = "ml") -> Settings:
    """The settings that the operator would read from its container's arguments."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    command, *flags = container(rendered(values, namespace=namespace))["args"]
    assert command == "operator"
    return settings_from(parser.parse_args(flags))


def test_definitions_are_those_of_the_models() -> None:
    bare = {
        each["metadata"]["name"]: each | {"metadata": {"name": each["metadata"]["name"]}}
        for each in definitions({})
    }

    models: list[Any] = list(crds().values())
    assert bare == {each["metadata"]["name"]: each for each in models}


@pytest.mark.parametrize("keep", [True, False])
def test_definitions_and_policy_outlive_the_release_unless_told_otherwise(keep: bool) -> None:  # noqa: FBT001
    policies = [
        each["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        for each in rendered({"crds": {"keep": keep}})
        if each["kind"] in {"CustomResourceDefinition", *POLICY}
    ]

    assert policies == ["keep" if keep else None] * (len(crds()) + 4)


def policy_of(name: str) -> list[dict[str, Any]]:
    """A policy and its binding."""
    named = [each for each in rendered() if each["metadata"]["name"] == name]
    return sorted(named, key=lambda each: POLICY.index(each["kind"]))


def test_the_policy_of_corrections_is_that_of_the_catalogue() -> None:
    bare = [
        each | {"metadata": {"name": each["metadata"]["name"]}}
        for each in policy_of(CORRECTION_POLICY)
    ]

    assert bare == correction_policy()


def test_the_operator_knows_the_policy_and_what_it_holds_in_check_by_name() -> None:
    policy, binding = policy_of(REPORT_POLICY)
    said = str(policy["spec"])

    assert policy["metadata"]["name"] == binding["metadata"]["name"] == REPORT_POLICY
    assert binding["spec"] == {"policyName": REPORT_POLICY, "validationActions": ["Deny"]}
    assert f"':{STAGES_ACCOUNT}'" in said
    assert f"+ '{JOB_MARK}'" in said
    assert f"'{shared_name('')}'" in said
    assert f"size() - {len(shared_name(''))})" in said


def test_helm_finds_no_folder_of_definitions_that_it_would_never_upgrade() -> None:
    assert chart().crds == []


def test_two_renderings_are_the_same() -> None:
    """GitOps tools draw the chart again every few minutes, and would see drift."""
    assert rendered(EVERYTHING) == rendered(EVERYTHING)


@pytest.mark.parametrize("values", [{}, NAMESPACED, EVERYTHING])
def test_every_object_says_where_it_lives(values: dict[str, Any]) -> None:
    cluster_wide = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", *POLICY}

    for each in rendered(values):
        is_cluster_wide = each["kind"] in cluster_wide
        assert ("namespace" in each["metadata"]) != is_cluster_wide, each["metadata"]["name"]


def test_no_object_is_drawn_twice() -> None:
    for values in ({}, NAMESPACED | EVERYTHING):
        keys = [
            (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
            for each in rendered(values)
        ]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize("name", ["tunesmith", "x", "a" * 53])
def test_names_are_valid_for_every_name_of_a_release(name: str) -> None:
    """Helm allows 53 characters, Kubernetes 63 for a Service."""
    for each in rendered(EVERYTHING, name=name):
        is_ours = each["kind"] != "CustomResourceDefinition"
        assert not is_ours or len(each["metadata"]["name"]) <= 63


def test_the_selector_stays_when_version_labels_and_values_change() -> None:
    """A Deployment's selector is fixed for ever: another one would break every upgrade."""
    before = one(rendered(), "Deployment")["spec"]["selector"]
    values = {"podLabels": {"team": "ml"}, "images": {"tag": "9"}, "replicas": 3}

    assert one(rendered(values), "Deployment")["spec"]["selector"] == before
    assert before["matchLabels"] == {
        "app.kubernetes.io/name": "tunesmith",
        "app.kubernetes.io/instance": "tunesmith",
    }


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "NetworkPolicy"])
def test_whatever_selects_pods_selects_the_operators(kind: str) -> None:
    objects = rendered()
    spec = one(objects, kind)["spec"]
    selector = spec.get("podSelector", spec.get("selector"))
    wanted = selector.get("matchLabels", selector)
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]

    assert wanted.items() <= labels.items()


def test_the_pod_is_as_pod_security_restricted_asks() -> None:
    """The test on a cluster lets the API server judge; this one says what is meant."""
    pod = one(rendered(), "Deployment")["spec"]["template"]["spec"]
    context = container(rendered())["securityContext"]

    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume} == {"tmp"}


def test_only_the_operators_own_pod_gets_its_token() -> None:
    objects = rendered()

    assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True


def test_probes_ask_the_port_that_the_operator_opens() -> None:
    found = container(rendered())
    ports = {each["name"]: each["containerPort"] for each in found["ports"]}
    settings = settings_of({})

    assert ports == {"metrics": settings.metrics_port, "health": settings.health_port}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert found[probe]["httpGet"]["port"] == "health"


def test_defaults_of_the_chart_are_those_of_the_command() -> None:
    registry = "localhost/tunesmith"
    images = {each: f"{registry}/{each}:{chart().metadata['appVersion']}" for each in Environment}

    assert settings_of({}) == Settings(images=images, lease_namespace="ml")


def test_every_value_for_the_operator_reaches_it() -> None:
    digest = f"registry.example.com/ml/server@sha256:{'1' * 64}"
    values = {
        "images": {"registry": "registry.example.com:5000/ml/", "tag": "2", "server": digest},
        "namespaces": ["team-a", "team-b"],
        "workers": 3,
        "workspace": {"size": "1Ti", "storageClass": "fast"},
        "prometheusUrl": "http://prometheus:9090",
    }

    assert settings_of(values, namespace="system") == Settings(
        images={
            Environment.TRAINER: "registry.example.com:5000/ml/trainer:2",
            Environment.COMPRESSOR: "registry.example.com:5000/ml/compressor:2",
            Environment.SERVER: digest,
            Environment.EDGE: "registry.example.com:5000/ml/edge:2",
        },
        namespaces=("team-a", "team-b"),
        workers=3,
        lease_namespace="system",
        workspace_size="1Ti",
        workspace_class="fast",
        prometheus_url="http://prometheus:9090",
    )


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://prometheus.monitoring:9090", 9090),
        ("https://prometheus.example.com/prefix", 443),
        ("http://prometheus", 80),
    ],
)
def test_the_network_policy_lets_the_operator_ask_prometheus(url: str, port: int) -> None:
    spec = one(rendered({"prometheusUrl": url}), "NetworkPolicy")["spec"]

    assert [{"port": port, "protocol": "TCP"}] in [rule["ports"] for rule in spec["egress"]]


def test_the_network_policy_refuses_what_it_does_not_name() -> None:
    spec = one(rendered(), "NetworkPolicy")["spec"]

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in spec["ingress"] for port in rule["ports"]] == ["metrics"]
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {
        53,
        443,
        6443,
        8000,
    }


def stage_policies(**values: Any) -> list[dict[str, Any]]:
    """The network policies of pods of stages in a release with these values."""
    objects = rendered(values)
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    return [each for each in policies if each["metadata"]["name"].endswith("-stages")]


def test_pods_of_stages_are_reached_by_each_other_kuberay_and_who_scrapes_alone() -> None:
    (policy,) = stage_policies(namespaces=["team"])
    spec, stage = policy["spec"], {"key": LABEL_STAGE, "operator": "Exists"}

    assert policy["metadata"]["namespace"] == "team"
    assert spec["podSelector"] == {"matchExpressions": [stage]}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    own, kuberay, metrics = spec["ingress"]
    assert own == {"from": [{"podSelector": {"matchExpressions": [stage]}}]}
    assert [port["port"] for port in kuberay["ports"]] == [8265, 6379]
    assert kuberay["from"][0]["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "kuberay-operator"
    }
    assert [port["port"] for port in metrics["ports"]] == [TRAINING_METRICS["name"]]


def test_pods_of_stages_do_not_reach_the_metadata_service_of_a_cloud() -> None:
    (policy,) = stage_policies(networkPolicy={"stages": {"namespaces": ["team"]}})
    blocks = [peer["ipBlock"] for peer in policy["spec"]["egress"][1]["to"]]

    assert {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]} in blocks
    assert stage_policies() == []


def test_two_releases_of_a_namespace_have_a_lease_each() -> None:
    names = set()
    for name in ("tunesmith", "prod", "canary"):
        (operator,) = (each for each in rendered({}, name=name) if each["kind"] == "Deployment")
        (container,) = operator["spec"]["template"]["spec"]["containers"]
        names |= {each for each in container["args"] if each.startswith("--leader-election-id=")}

    assert names == {
        "--leader-election-id=tunesmith-operator",
        "--leader-election-id=prod-tunesmith-operator",
        "--leader-election-id=canary-tunesmith-operator",
    }
