"""promtool as a function: series in, alerts and values out, by Prometheus' own evaluation."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Firing:
    """Which alerts fire at a time: label sets, such as `{alertname="A", slo="ttft"}`."""

    at: str
    alerts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Value:
    """What a query answers at a time, by label set."""

    query: str
    at: str
    samples: Mapping[str, float]


def promtool(*arguments: str) -> str:
    """Run it; its complaint is the failure of the test."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not on the PATH; Debian has it in the package prometheus")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_rules(path: Path, groups: Sequence[Manifest]) -> Path:
    """The file that Prometheus' operator makes of a PrometheusRule."""
    path.write_text(yaml.safe_dump({"groups": list(groups)}, sort_keys=False), encoding="utf-8")
    return path


def check_alerts(
    folder: Path,
    *,
    rules: Sequence[Path],
    series: Mapping[str, str],
    firing: Sequence[Firing],
    by: Sequence[str] = ("alertname",),
    severity: str = ".+",
    interval: str = "1m",
) -> None:
    """Hold what fires at each time to `firing`.

    `by` are the labels that tell alerts apart, `severity` a pattern of those that are looked at.
    """
    alerts = f'ALERTS{{alertstate="firing",severity=~"{severity}"}}'
    question = f"count by ({', '.join(by)}) ({alerts})"
    values = [Value(question, each.at, dict.fromkeys(each.alerts, 1.0)) for each in firing]
    check_values(folder, rules=rules, series=series, values=values, interval=interval)


def check_values(
    folder: Path,
    *,
    rules: Sequence[Path],
    series: Mapping[str, str],
    values: Sequence[Value],
    interval: str = "1m",
) -> None:
    """Hold the answers to queries to what is expected.

    `series` are in promtool's notation, with a sample each `interval`.
    """
    asked = [
        {
            "expr": each.query,
            "eval_time": each.at,
            "exp_samples": [
                {"labels": labels, "value": value} for labels, value in sorted(each.samples.items())
            ],
        }
        for each in values
    ]
    given = [{"series": name, "values": samples} for name, samples in series.items()]
    document = {
        "rule_files": [str(each) for each in rules],
        "evaluation_interval": interval,
        "tests": [{"interval": interval, "input_series": given, "promql_expr_test": asked}],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    promtool("test", "rules", str(path))
