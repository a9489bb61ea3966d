"""Values: each is explained, checked before anything is installed, and does something."""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import helm_python
import pytest
import yaml

from chart import CHART, EVERYTHING, chart, rendered

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DIGEST = f"registry.example.com/ml/image@sha256:{'0' * 64}"

# For every value another one; what is drawn has to differ.
OTHER: dict[str, Any] = {
    "images.registry": "registry.example.com:5000/ml",
    "images.tag": "2.0.0",
    "images.operator": DIGEST,
    "images.trainer": DIGEST,
    "images.compressor": DIGEST,
    "images.server": DIGEST,
    "images.edge": DIGEST,
    "images.pullPolicy": "Always",
    "images.pullSecrets": ["registry"],
    "replicas": 2,
    "namespaces": ["team-a", "team-b"],
    "workers": 4,
    "workspace.size": "1Ti",
    "workspace.storageClass": "fast",
    "prometheusUrl": "http://prometheus:9090",
    "crds.enabled": False,
    "crds.keep": False,
    "finetunePolicy.enabled": True,
    "serviceAccount.create": False,
    "serviceAccount.name": "operator",
    "serviceAccount.annotations": {"example.com/role": "ml"},
    "rbac.create": False,
    "rbac.aggregate": False,
    "metrics.serviceMonitor.enabled": False,
    "metrics.serviceMonitor.interval": "1m",
    "metrics.serviceMonitor.labels": {"release": "prometheus"},
    "metrics.podMonitor.enabled": False,
    "metrics.podMonitor.interval": "1m",
    "metrics.podMonitor.labels": {"release": "prometheus"},
    "alerts.enabled": False,
    "alerts.labels": {"release": "prometheus"},
    "alerts.runbookUrl": "https://wiki.example.com/tunesmith",
    "cost.pricePerAcceleratorHour": 2.5,
    "dashboard.enabled": False,
    "dashboard.labels": {"dashboards": "yes"},
    "networkPolicy.enabled": False,
    "networkPolicy.apiServerPorts": [8443],
    "networkPolicy.metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
    "networkPolicy.stages.enabled": False,
    "networkPolicy.stages.namespaces": ["team-b"],
    "networkPolicy.stages.kuberayFrom": [{"podSelector": {"matchLabels": {"app": "ray"}}}],
    "networkPolicy.stages.egress": [{"ports": [{"port": 443}]}],
    "podDisruptionBudget.enabled": False,
    "resources": {"limits": {"memory": "1Gi"}},
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "podLabels": {"team": "ml"},
    "podAnnotations": {"example.com/note": "kept"},
    "nameOverride": "tuner",
    "fullnameOverride": "tuner",
}
# What a person would plausibly mistype, and the word that the refusal has to hold.
MISTAKES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"replica": 2}, "replica"),
    ({"crds": {"enable": True}}, "enable"),
    ({"replicas": "2"}, "replicas"),
    ({"namespaces": "team-a"}, "namespaces"),
    ({"namespaces": ["Team_A"]}, "namespaces"),
    ({"workers": 0}, "workers"),
    ({"workspace": {"size": "50 GB"}}, "size"),
    ({"images": {"registry": ""}}, "registry"),
    ({"images": {"tag": "v1:2"}}, "tag"),
    ({"images": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"images": {"trainer": "registry.example.com/trainer@sha256:12"}}, "trainer"),
    ({"networkPolicy": {"apiServerPorts": []}}, "apiServerPorts"),
    ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "interval"),
    ({"metrics": {"podMonitor": {"interval": "soon"}}}, "interval"),
    ({"cost": {"pricePerAcceleratorHour": -1}}, "pricePerAcceleratorHour"),
    ({"podLabels": {"cost": 12}}, "podLabels"),
)


def leaves(values: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every value that the schema does not take apart further."""
    for key, value in values.items():
        inner = schema["properties"][key]
        closed = inner.get("additionalProperties") is False and key != "resources"
        yield from leaves(value, inner, f"{path}{key}.") if closed else [f"{path}{key}"]


def with_value(path: str, value: Any) -> dict[str, Any]:
    changed: dict[str, Any] = copy.deepcopy(EVERYTHING)
    *parents, last = path.split(".")
    node = changed
    for each in parents:
        node = node.setdefault(each, {})
    node[last] = value
    return changed


def closed_objects(schema: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, child in schema.get("properties", {}).items():
        if "properties" in child:
            yield f"{path}{name}", child
            yield from closed_objects(child, f"{path}{name}.")


def test_the_defaults_are_allowed() -> None:
    chart().validate_schema({})


def test_values_and_schema_know_the_same_keys() -> None:
    """A key in one alone is refused for no reason, or allowed and without effect."""

    def compare(values: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
        known = set(schema["properties"]) - {"global"}
        assert set(values) == known
        for key in known:
            inner = schema["properties"][key]
            if "properties" in inner and key != "resources":
                compare(values[key], inner)

    compare(VALUES, SCHEMA)


def test_no_object_takes_unknown_keys() -> None:
    assert SCHEMA["additionalProperties"] is False
    for path, node in closed_objects(SCHEMA):
        assert node["additionalProperties"] is False, path


def test_every_value_is_another_one_in_this_test() -> None:
    assert set(leaves(VALUES, SCHEMA)) == set(OTHER)


@pytest.mark.parametrize("path", OTHER)
def test_every_value_changes_what_is_installed(path: str) -> None:
    assert rendered(with_value(path, OTHER[path])) != rendered(EVERYTHING)


def test_every_value_is_explained_by_a_comment_above_it() -> None:
    """Above its own line, or above the group of lines that it belongs to."""
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r" *[A-Za-z]+:", line) and (before == "" or before.endswith(":"))
    ]
    groups = {"images", "workspace", "crds", "serviceAccount", "rbac", "metrics", "serviceMonitor",
              "podMonitor", "alerts", "cost", "finetunePolicy", "dashboard", "networkPolicy",
              "stages", "podDisruptionBudget", "requests", "grafana_dashboard", "cpu",
              "memory"}  # fmt: skip

    assert {line.strip().partition(":")[0] for line in bare} <= groups


@pytest.mark.parametrize(("values", "word"), MISTAKES)
def test_a_mistyped_value_is_refused_and_named(values: dict[str, Any], word: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=word):
        chart().validate_schema(values)


def test_a_parent_chart_may_hand_down_its_global_values() -> None:
    chart().validate_schema({"global": {"anything": 1}})


def test_helm_finds_nothing_to_mend() -> None:
    assert helm_python.lint(CHART)["errors"] == []
