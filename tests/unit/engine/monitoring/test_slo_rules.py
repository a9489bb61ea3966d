"""Burn-rate rules of a deployment, evaluated by Prometheus' own promtool."""

import random
from collections.abc import Callable
from math import pi, sin
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.utils import floatToGoString

from promtool import Firing, check_alerts, promtool, write_rules
from tunesmith_api.modeldeployment.slo import BOUNDARIES
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.monitoring.slo_rules import BURN_WINDOWS, slo_rule_groups

Rate = Callable[[int], float]
# Ticks of two minutes.
HOUR, DAY = 30, 720
SERIES = 'namespace="ml",deployment="helpdesk",pod="a",model="helpdesk",version="v1"'
LATENCIES = {
    "ttft": ("tunesmith_time_to_first_token_seconds", "2.0"),
    "itl": ("tunesmith_inter_token_latency_seconds", "0.1"),
}
OBJECTIVES = {"availability": 0.999, "ttft": 0.99, "itl": 0.99}
# What part of the requests a burn spoils; one promise is broken after the other.
SHARES = {"availability": 1.0, "ttft": 1.0, "itl": 0.5}
SLO = {"availability": {}, "ttft": {"seconds": 2}, "itl": {"seconds": 0.1}}


def groups(slo: dict[str, Any] | None) -> list[dict[str, Any]]:
    spec = ModelDeploymentSpec.model_validate({"model": "helpdesk", "slo": slo})
    return slo_rule_groups(spec, namespace="ml", name="helpdesk", runbooks="docs/runbook")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return write_rules(tmp_path / "rules.yaml", groups(SLO))


def burn(severity: str, slo: str) -> str:
    return f'{{alertname="TunesmithErrorBudgetBurn", severity="{severity}", slo="{slo}"}}'


def test_a_deployment_without_promises_has_no_rules() -> None:
    assert groups(None) == []


def test_the_factors_are_those_of_the_workbook() -> None:
    assert [(each.long, each.short, round(each.factor, 9)) for each in BURN_WINDOWS] == [
        ("1h", "5m", 14.4),
        ("6h", "30m", 6),
        ("1d", "2h", 3),
        ("3d", "6h", 1),
    ]


def test_prometheus_takes_the_rules(rules: Path) -> None:
    num_rules = sum(len(group["rules"]) for group in groups(SLO))

    assert f"{num_rules} rules found" in promtool("check", "rules", str(rules))


@pytest.mark.parametrize("seconds", BOUNDARIES)
def test_a_bucket_is_asked_for_as_replicas_write_it(seconds: float) -> None:
    """To Prometheus `1` is another bucket than `1.0`."""
    (first, *_) = groups({"ttft": {"seconds": seconds}})
    written = floatToGoString(seconds)  # type: ignore[no-untyped-call]

    assert f'le="{written}"' in first["rules"][1]["expr"]


def counted(rate: Callable[[int], float], ticks: int) -> str:
    """A counter that grows by `rate(tick)` each tick, in promtool's notation."""
    total, values = 0.0, ["0"]
    for tick in range(ticks):
        total += rate(tick)
        values.append(f"{total:.10g}")
    return " ".join(values)


def traffic(bad: dict[str, Rate], *, ticks: int, every: Rate = lambda _: 100) -> dict[str, str]:
    """`every(tick)` requests, of which `bad[slo](tick)` miss each promise."""
    labels = SERIES
    series = {
        f'tunesmith_requests_total{{{labels},outcome="error"}}': counted(
            bad["availability"], ticks
        ),
        f'tunesmith_requests_total{{{labels},outcome="complete"}}': counted(
            lambda tick: every(tick) - bad["availability"](tick), ticks
        ),
    }
    for slo, (metric, boundary) in LATENCIES.items():
        series[f"{metric}_count{{{labels}}}"] = counted(every, ticks)
        series[f'{metric}_bucket{{{labels},le="{boundary}"}}'] = counted(
            lambda tick, missed=bad[slo]: every(tick) - missed(tick),  # type: ignore[misc]
            ticks,
        )
    return series


def test_a_page_comes_within_two_evaluations_of_a_burn(rules: Path, tmp_path: Path) -> None:
    """Two after the hour has lost what it may lose: of each promise by itself, and not before."""
    start = 6 * 60
    bad: dict[str, Rate] = {
        slo: lambda minute, share=share: 100 * share if minute >= start else 0  # type: ignore[misc]
        for slo, share in SHARES.items()
    }
    firing, burning = [], frozenset[str]()
    for slo, share in SHARES.items():
        lost = start + 60 * 14.4 * (1 - OBJECTIVES[slo]) / share
        firing.append(Firing(f"{int(lost - 0.5)}m", burning))
        burning |= {burn("critical", slo)}
        firing.append(Firing(f"{int(lost) + 2}m", burning))

    check_alerts(
        tmp_path,
        rules=[rules],
        series=traffic(bad, ticks=start + 30),
        firing=firing,
        by=("alertname", "severity", "slo"),
        severity="critical",
    )


@pytest.mark.long
def test_a_slow_burn_opens_a_ticket_and_pages_nobody(rules: Path, tmp_path: Path) -> None:
    """At 5.9 times the pace the day has lost a tenth of the month after 12.2 hours."""
    start, factor = 72 * HOUR, 5.9
    bad: dict[str, Rate] = dict.fromkeys(OBJECTIVES, lambda _: 0)
    bad["availability"] = lambda tick: 0.1 * factor if tick >= start else 0
    lost = start + 24 * HOUR * 3 / factor

    check_alerts(
        tmp_path,
        rules=[rules],
        series=traffic(bad, ticks=int(lost) + 3),
        firing=[
            Firing(f"{2 * int(lost - 0.5)}m", frozenset()),
            Firing(f"{2 * (int(lost) + 2)}m", frozenset({burn("warning", "availability")})),
        ],
        by=("alertname", "severity", "slo"),
        interval="2m",
    )


def test_a_day_of_ordinary_traffic_rings_nothing(rules: Path, tmp_path: Path) -> None:
    """A daily cycle, and failures by chance that use up half of the budget."""
    chance = random.Random(0)
    every = [round(200 * (1 + 0.8 * sin(2 * pi * tick / DAY))) for tick in range(DAY)]
    missed = {
        slo: [sum(chance.random() < (1 - objective) / 2 for _ in range(num)) for num in every]
        for slo, objective in OBJECTIVES.items()
    }
    bad: dict[str, Rate] = {slo: counts.__getitem__ for slo, counts in missed.items()}

    check_alerts(
        tmp_path,
        rules=[rules],
        series=traffic(bad, ticks=DAY, every=every.__getitem__),
        firing=[Firing(f"{2 * tick}m", frozenset()) for tick in range(HOUR, DAY)],
        interval="2m",
    )
