"""Alerts and dashboard: sound, about metrics that the operator has, and quiet when all is well."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart import CHART, EVERYTHING, one, rendered

ALERTS = CHART / "files" / "alerts.yaml"
OPERATOR = Path(__file__).parents[3] / "operator" / "tunesmith_operator"
METRIC = re.compile(r"\b(?:controller_runtime|leader_election|workqueue)_[a-z_]+")

# Series over 30 minutes in Prometheus' own notation, and the alerts that they raise.
LEADER = "leader_election_master_status{name='tunesmith-operator', pod='%s'}"
LOOKS = "controller_runtime_reconcile_total{controller='finetunejob', result='%s'}"
ERRORS = "controller_runtime_reconcile_errors_total{controller='finetunejob'}"
SECONDS = "controller_runtime_reconcile_time_seconds_bucket{controller='finetunejob', le='%s'}"
DEPTH = "workqueue_depth{name='finetunejob'}"
WELL = {
    LEADER % "a": "1x30",
    LEADER % "b": "0x30",
    LOOKS % "success": "0+60x30",
    ERRORS: "0x30",
    DEPTH: "3x30",
}
STORIES: dict[str, tuple[dict[str, str], set[str]]] = {
    "all is well": (WELL, set()),
    "nothing is scraped": ({}, {"TunesmithWithoutLeader"}),
    "nobody leads": (WELL | {LEADER % "a": "0x30"}, {"TunesmithWithoutLeader"}),
    "every third look fails": (
        WELL | {LOOKS % "error": "0+30x30", ERRORS: "0+30x30"},
        {"TunesmithReconcileErrors"},
    ),
    "jobs wait and none is looked at": (
        WELL | {LOOKS % "success": "60x30"},
        {"TunesmithQueueStuck"},
    ),
    "looks are slow": (
        WELL | {SECONDS % "1": "0x30", SECONDS % "60": "0+10x30", SECONDS % "+Inf": "0+10x30"},
        {"TunesmithReconcileSlow"},
    ),
}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text())
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def promtool(*arguments: str) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not on the PATH; Debian has it in the package prometheus")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alerts_and_dashboard_are_about_metrics_that_the_operator_has() -> None:
    """A renamed metric leaves an alert silent for ever."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in OPERATOR.rglob("*.py"))
    asked = {name for text in [*queries(), *(r["expr"] for r in rules())]
             for name in METRIC.findall(text)}  # fmt: skip

    known = {name.removesuffix("_bucket").removesuffix("_total") for name in asked}
    assert {name for name in known if name not in code} == set()


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_chart_installs_the_rules_as_they_are() -> None:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]

    assert one(rendered(EVERYTHING), "PrometheusRule")["spec"] == {"groups": groups}


def test_the_chart_installs_the_dashboard_as_it_is() -> None:
    data = one(rendered(EVERYTHING), "ConfigMap")["data"]

    assert json.loads(data["tunesmith.json"]) == dashboard()


def test_prometheus_takes_the_rules() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(ALERTS))


@pytest.mark.parametrize("story", STORIES)
def test_alerts_ring_when_they_should_and_only_then(story: str, tmp_path: Path) -> None:
    series, ringing = STORIES[story]
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(ringing)]
    question = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": "29m",
        "exp_samples": expected,
    }
    given = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": given, "promql_expr_test": [question]}
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": [test]}))

    promtool("test", "rules", str(path))


@pytest.mark.parametrize("query", queries())
def test_prometheus_can_read_every_query_of_the_dashboard(query: str, tmp_path: Path) -> None:
    text = query.replace("$__rate_interval", "5m")
    path = tmp_path / "rules.yaml"
    group = {"name": "dashboard", "rules": [{"record": "panel", "expr": text}]}
    path.write_text(yaml.safe_dump({"groups": [group]}))

    promtool("check", "rules", str(path))
