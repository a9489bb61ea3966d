"""Rules and dashboards of the chart: about metrics that there are, and quiet when all is well."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from chart import CHART, EVERYTHING, rendered
from monitored_deployment import VLLM_COUNTERS, VLLM_GAUGES, VLLM_HISTOGRAMS, slo_groups
from promtool import Firing, Value, check_alerts, check_values, promtool, write_rules
from tunesmith_engine.monitoring.metric_families import FAMILIES
from tunesmith_engine.monitoring.training_families import TRAINING_FAMILIES
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_operator.finetunejob.child_names import LABEL_STAGE
from tunesmith_operator.finetunejob.manifests import TRAINING_METRICS
from tunesmith_serving.tap.metrics import ReplicaMetrics
from tunesmith_serving.tap.probe_metrics import ProbeMetrics

ROOT = Path(__file__).parents[3]
RULES = {path.stem: path for path in sorted((CHART / "files" / "rules").glob("*.yaml"))}
DASHBOARDS = {path.stem: path for path in sorted((CHART / "files" / "dashboards").glob("*.json"))}
METRIC = re.compile(r"\b(?:controller_runtime|leader_election|workqueue|tunesmith|vllm)[a-z_:]+")
PARTS = ("_bucket", "_count", "_sum", "_total")

# Series over half an hour in Prometheus' own notation, and the alerts that they raise.
LEADER = "leader_election_master_status{name='tunesmith-operator', pod='%s'}"
LOOKS = "controller_runtime_reconcile_total{controller='finetunejob', result='%s'}"
ERRORS = "controller_runtime_reconcile_errors_total{controller='finetunejob'}"
SECONDS = "controller_runtime_reconcile_time_seconds_bucket{controller='finetunejob', le='%s'}"
DEPTH = "workqueue_depth{name='finetunejob'}"
REPLICAS = "tunesmith_deployment_replicas{namespace='ml', deployment='helpdesk', role='stable'}"
READY = "tunesmith_deployment_ready_replicas{namespace='ml', deployment='helpdesk', role='stable'}"
PHASE = "tunesmith_deployment_phase{namespace='ml', deployment='helpdesk', phase='%s'}"
ROLLOUTS = "tunesmith_rollouts_total{namespace='ml', deployment='helpdesk', result='rolledBack'}"
VERSION = "namespace='ml', deployment='helpdesk', version='v1'"
EVIDENCE = f"tunesmith_drift_log_e_value{{{VERSION}, signal='promptTokens'}}"
EFFECT = f"tunesmith_drift_effect{{{VERSION}, signal='promptTokens'}}"
THRESHOLD = f"tunesmith_drift_log_e_threshold{{{VERSION}}}"
MISMATCH = f"tunesmith_artifact_mismatch{{{VERSION}}}"
BIAS = f"tunesmith_probe_bias_growth_low_nats{{{VERSION}, pod='a', suite='crows'}}"
QUALITY = f"tunesmith_probe_quality_loss_nats{{{VERSION}, pod='a'}}"
WELL = {
    LEADER % "a": "1x30",
    LEADER % "b": "0x30",
    LOOKS % "success": "0+60x30",
    ERRORS: "0x30",
    DEPTH: "3x30",
    REPLICAS: "2x30",
    READY: "1x30",
    PHASE % "Serving": "1x30",
    PHASE % "Progressing": "0x30",
    ROLLOUTS: "0x30",
    EVIDENCE: "1x30",
    EFFECT: "0x30",
    THRESHOLD: "7x30",
    MISMATCH: "0x30",
    QUALITY: "0.02x30",
    BIAS: "-0.1x30",
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
    "no replica answers": (WELL | {READY: "0x30"}, {"TunesmithNoReadyReplica"}),
    "no replica is wanted": (WELL | {READY: "0x30", REPLICAS: "0x30"}, set()),
    "a version was taken back": (WELL | {ROLLOUTS: "0x20 1x10"}, {"TunesmithRolledBack"}),
    "traffic has drifted": (
        WELL | {EVIDENCE: "8x30", EFFECT: "0.1x30"},
        {"TunesmithTrafficDrift"},
    ),
    "evidence of a drift that matters to nobody": (WELL | {EVIDENCE: "99x30"}, set()),
    "a large difference by chance": (WELL | {EFFECT: "0.9x30"}, set()),
    "answers have become a little worse": (WELL | {QUALITY: "0.3x30"}, {"TunesmithQualityLoss"}),
    "an engine that computes a little otherwise": (WELL | {QUALITY: "0.17x30"}, set()),
    "a gap between groups has grown": (WELL | {BIAS: "0.2x30"}, {"TunesmithBiasGrown"}),
    "another model answers": (WELL | {MISMATCH: "1x30"}, {"TunesmithArtifactMismatch"}),
}


def groups(*names: str) -> list[dict[str, Any]]:
    """Groups of rules in those files of the chart; of all without a name."""
    return [
        group
        for name in names or RULES
        for group in yaml.safe_load(RULES[name].read_text(encoding="utf-8"))["groups"]
    ]


def rules() -> list[dict[str, Any]]:
    return [rule for group in (*groups(), *slo_groups()) for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def queries(name: str) -> list[str]:
    panels = json.loads(DASHBOARDS[name].read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def exported() -> set[str]:
    """Every series that the replicas, the operator and vLLM have."""
    replica, operator = CollectorRegistry(), Metrics().registry
    ReplicaMetrics(models=["helpdesk"], version="v1", registry=replica)
    ProbeMetrics(model="helpdesk", version="v1", registry=replica)
    families = {family.name for each in (replica, operator) for family in each.collect()}
    return (
        families
        | {family.name for family in (*FAMILIES, *TRAINING_FAMILIES)}
        | {*VLLM_COUNTERS, *VLLM_GAUGES, *VLLM_HISTOGRAMS}
    )


def test_rules_and_dashboards_are_about_metrics_that_there_are() -> None:
    """A renamed metric leaves an alert silent for ever."""
    texts = [query for name in DASHBOARDS for query in queries(name)]
    asked = {name for text in (*texts, *(rule["expr"] for rule in rules()))
             for name in METRIC.findall(text)}  # fmt: skip
    # NB: the word before a colon of a recorded name is no metric.
    recorded = {part for rule in rules() for part in METRIC.findall(rule.get("record", ""))}

    known = exported() | recorded
    strange = {
        name for name in asked if not any(name.removesuffix(part) in known for part in ("", *PARTS))
    }
    assert strange == set()


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_wrong_and_has_a_page(rule: dict[str, Any]) -> None:
    page = f"docs/runbook/{rule['alert']}.md"

    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == page
    assert (ROOT / page).read_text(encoding="utf-8").startswith(f"# {rule['alert']}\n")


def test_every_page_of_the_runbook_is_of_an_alert() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "runbook").glob("*.md")}

    assert pages == {rule["alert"] for rule in alerts()}


def test_the_chart_installs_the_rules_as_they_are() -> None:
    installed = [each for each in rendered(EVERYTHING) if each["kind"] == "PrometheusRule"]

    assert {each["metadata"]["name"] for each in installed} == {f"tunesmith-{n}" for n in RULES}
    assert [group for each in installed for group in each["spec"]["groups"]] == groups()


def test_pods_that_train_are_scraped_by_the_port_that_they_have() -> None:
    monitors = {
        each["metadata"]["name"]: each["spec"]
        for each in rendered(EVERYTHING)
        if each["kind"] == "PodMonitor"
    }

    spec = monitors["tunesmith-training"]
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] == TRAINING_METRICS["name"]
    assert spec["selector"]["matchLabels"] == {LABEL_STAGE: TRAIN.name}
    assert set(monitors) == {"tunesmith-training", "tunesmith-replicas"}


def test_alerts_link_to_where_the_pages_are() -> None:
    values = {"alerts": {"enabled": True, "runbookUrl": "https://wiki.example.com/tunesmith/"}}
    installed = [each for each in rendered(values) if each["kind"] == "PrometheusRule"]

    links = {
        rule["annotations"]["runbook_url"]
        for each in installed
        for group in each["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert "https://wiki.example.com/tunesmith/TunesmithRolledBack.md" in links
    assert all(link.startswith("https://wiki.example.com/tunesmith/Tunesmith") for link in links)


def test_the_chart_installs_the_dashboards_as_they_are() -> None:
    data = {
        name: json.loads(text)
        for each in rendered(EVERYTHING)
        if each["kind"] == "ConfigMap"
        for name, text in each["data"].items()
    }

    assert data == {
        f"tunesmith-{name}.json": json.loads(path.read_text()) for name, path in DASHBOARDS.items()
    }


def test_the_dashboards_are_those_of_the_panels(tmp_path: Path) -> None:
    """`make dashboards` was run."""
    script = ROOT / "scripts" / "write_dashboards.py"
    subprocess.run([sys.executable, script, "--directory", tmp_path], check=True)

    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {name: (CHART / "files/dashboards" / name).read_text() for name in written}
    assert set(DASHBOARDS) - {Path(name).stem for name in written} == {"operator"}


@pytest.mark.parametrize("name", RULES)
def test_prometheus_takes_the_rules(name: str) -> None:
    num_rules = sum(len(group["rules"]) for group in groups(name))

    assert f"{num_rules} rules found" in promtool("check", "rules", str(RULES[name]))


@pytest.mark.parametrize("story", STORIES)
def test_alerts_ring_when_they_should_and_only_then(story: str, tmp_path: Path) -> None:
    series, ringing = STORIES[story]

    check_alerts(
        tmp_path,
        rules=list(RULES.values()),
        series=series,
        firing=[Firing("29m", frozenset(f'{{alertname="{name}"}}' for name in ringing))],
    )


def test_a_rollout_that_takes_two_hours_is_stalled(tmp_path: Path) -> None:
    """However often it went from one phase to the next meanwhile."""
    series = {
        PHASE % "Progressing": "1x70 0x100",
        PHASE % "RollingBack": "0x70 1x100",
    }
    stalled = frozenset({'{alertname="TunesmithRolloutStalled"}'})

    check_alerts(
        tmp_path,
        rules=[RULES["serving"]],
        series=series,
        firing=[Firing("1h59m", frozenset()), Firing("2h1m", stalled)],
    )


def test_cost_is_accelerators_times_price_by_tokens_and_requests(tmp_path: Path) -> None:
    """3 accelerators at 2 an hour; 100 tokens and half a request a second."""
    labels = "namespace='ml', deployment='helpdesk'"
    series = {
        f"tunesmith_deployment_accelerators{{{labels}, role='stable'}}": "2x90",
        f"tunesmith_deployment_accelerators{{{labels}, role='candidate'}}": "1x90",
        f"tunesmith_deployment_accelerator_hour_price{{{labels}}}": "2x90",
        f"vllm:prompt_tokens_total{{{labels}, version='v1'}}": "0+3600x90",
        f"vllm:generation_tokens_total{{{labels}, version='v1'}}": "0+2400x90",
        f"tunesmith_requests_total{{{labels}, outcome='complete'}}": "0+30x90",
        "tunesmith_accelerator_hour_price": "2x90",
        "tunesmith_job_gpu_seconds_total{namespace='ml', model='helpdesk'}": "0+120x90",
    }
    of_deployment = '{deployment="helpdesk", namespace="ml"}'
    expected = {
        "deployment:tunesmith_cost_per_hour:sum": 6.0,
        "deployment:tunesmith_cost_per_million_tokens:ratio_rate1h": 6 / 360_000 * 1e6,
        "deployment:tunesmith_cost_per_request:ratio_rate1h": 6 / 1800,
    }

    check_values(
        tmp_path,
        rules=[RULES["serving"]],
        series=series,
        values=[
            Value(f"round({name}, 1e-6)", "80m", {of_deployment: round(value, 6)})
            for name, value in expected.items()
        ],
    )


@pytest.mark.parametrize("name", DASHBOARDS)
def test_prometheus_can_read_every_query_of_a_dashboard(name: str, tmp_path: Path) -> None:
    texts = [query.replace("$__rate_interval", "5m") for query in queries(name)]
    records = [{"record": f"panel:{place}", "expr": text} for place, text in enumerate(texts)]

    promtool("check", "rules", str(write_rules(tmp_path / "rules.yaml",
                                               [{"name": name, "rules": records}])))  # fmt: skip
