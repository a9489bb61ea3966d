"""Recording rules and burn-rate alerts of one deployment, from what it promises.

The windows and factors are the table of Google's SRE workbook for 30 days (chapter 5, "Alerting on
SLOs"), which Sloth uses, too: two windows each, so that an alert neither comes late nor stays long.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.modeldeployment.slo import Latency
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec

Rule = dict[str, Any]
BURN_ALERT: Final = "TunesmithErrorBudgetBurn"
PERIOD_S: Final = 30 * 86_400
# The bad and all requests of a second, from which the month is made up.
_BAD: Final = "deployment:slo_bad_requests:rate5m"
_ALL: Final = "deployment:slo_requests:rate5m"
_RATIO: Final = "deployment:slo_errors:ratio_rate"


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """An alert rings when `budget_percent` of a month's budget is gone in the `long` window.

    The `short` one ends it soon after the cause has ended.
    """

    severity: str
    budget_percent: float
    long: str
    short: str

    @property
    def factor(self) -> float:
        """How many times as quickly as the budget allows."""
        return self.budget_percent / 100 * PERIOD_S / WINDOWS_S[self.long]


BURN_WINDOWS: Final = (
    BurnWindow("critical", 2, "1h", "5m"),
    BurnWindow("critical", 5, "6h", "30m"),
    BurnWindow("warning", 10, "1d", "2h"),
    BurnWindow("warning", 10, "3d", "6h"),
)
WINDOWS_S: Final[Mapping[str, int]] = {
    "5m": 300,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "6h": 21_600,
    "1d": 86_400,
    "3d": 259_200,
}
_SUMMARY: Final = (
    "{{ $labels.deployment }} uses up its error budget of {{ $labels.slo }}: "
    "{{ $value | humanizePercentage }} of its requests miss it."
)


@dataclass(frozen=True, slots=True)
class _Indicator:
    """One promise: which requests count (`all`) and which of them keep it (`good`).

    Both are PromQL with `{W}` in place of the window.
    """

    name: str
    objective: float
    all: str
    good: str

    def ratio(self, window: str) -> str:
        """The share of the requests that miss it; nothing where there were no requests."""
        every = self.all.replace("{W}", window)
        return f"1 - {self.good.replace('{W}', window)} / ({every} > 0)"


def slo_rule_groups(
    spec: ModelDeploymentSpec, *, namespace: str, name: str, runbooks: str
) -> list[dict[str, Any]]:
    """The groups of rules of the deployment `name`, as a PrometheusRule holds them; [] for no SLO.

    `runbooks` is the address of the folder that holds a page for each alert.
    """
    groups: list[dict[str, Any]] = []
    for indicator in _indicators(spec, namespace=namespace, name=name):
        of_series = {"namespace": namespace, "deployment": name, "slo": indicator.name}
        group = f"tunesmith-slo-{namespace}-{name}-{indicator.name}"
        rules = [
            *_records(indicator, of_series),
            *_burn_alerts(indicator, of_series, runbooks=runbooks),
        ]
        groups.append({"name": group, "interval": "30s", "rules": rules})
        groups.append(
            # A month of samples is added up: seldom, but before the last value is stale (5 min).
            {"name": f"{group}-month", "interval": "2m", "rules": _month(indicator, of_series)}
        )
    return groups


def _indicators(spec: ModelDeploymentSpec, *, namespace: str, name: str) -> Iterator[_Indicator]:
    slo = spec.slo
    if slo is None:
        return
    series = f'namespace="{namespace}",deployment="{name}"'
    if slo.availability is not None:
        # What the client did wrong or gave up says nothing about us.
        counted = f'tunesmith_requests_total{{{series},outcome=~"complete|error|incomplete"}}'
        complete = f'tunesmith_requests_total{{{series},outcome="complete"}}'
        yield _Indicator(
            "availability", slo.availability.objective, _sum_rate(counted), _sum_rate(complete)
        )
    if slo.ttft is not None:
        yield _latency("ttft", slo.ttft, "tunesmith_time_to_first_token_seconds", series)
    if slo.itl is not None:
        yield _latency("itl", slo.itl, "tunesmith_inter_token_latency_seconds", series)


def _latency(name: str, slo: Latency, metric: str, series: str) -> _Indicator:
    # As prometheus_client writes it: a bucket is found by its text, so 1 is not 1.0.
    boundary = repr(float(slo.seconds))
    return _Indicator(
        name,
        slo.objective,
        _sum_rate(f"{metric}_count{{{series}}}"),
        _sum_rate(f'{metric}_bucket{{{series},le="{boundary}"}}'),
    )


def _sum_rate(series: str) -> str:
    return f"sum(rate({series}[{{W}}]))"


def _records(indicator: _Indicator, labels: Mapping[str, str]) -> Iterator[Rule]:
    """What alerts and dashboards are made of."""
    every, good = (text.replace("{W}", "5m") for text in (indicator.all, indicator.good))
    yield _record(_ALL, every, labels)
    yield _record(_BAD, f"{every} - {good}", labels)
    yield _record("deployment:slo_objective:ratio", f"vector({indicator.objective!r})", labels)
    for window in WINDOWS_S:
        yield _record(f"{_RATIO}{window}", indicator.ratio(window), labels)
    pace = f"{_ratio('1h', labels)} / {_budget(indicator)}"
    yield _record("deployment:slo_burn_rate:ratio_rate1h", pace, labels)


def _month(indicator: _Indicator, labels: Mapping[str, str]) -> list[Rule]:
    """The budget that is left: by requests, so that a night weighs less than a busy day."""
    bad, every = (f"sum_over_time({name}{_selector(labels)}[30d])" for name in (_BAD, _ALL))
    missed = f"{_RATIO}30d"
    left = f"1 - {missed}{_selector(labels)} / {_budget(indicator)}"
    return [
        _record(missed, f"{bad} / ({every} > 0)", labels),
        _record("deployment:slo_error_budget_remaining:ratio", left, labels),
    ]


def _burn_alerts(
    indicator: _Indicator, labels: Mapping[str, str], *, runbooks: str
) -> Iterator[Rule]:
    budget = float(_budget(indicator))
    for severity in dict.fromkeys(window.severity for window in BURN_WINDOWS):
        pairs = [
            f"({_ratio(window.long, labels)} > {window.factor * budget:.6g}"
            f" and {_ratio(window.short, labels)} > {window.factor * budget:.6g})"
            for window in BURN_WINDOWS
            if window.severity == severity
        ]
        yield _alert(
            BURN_ALERT,
            " or ".join(pairs),
            {**labels, "severity": severity},
            summary=_SUMMARY,
            description=f"{indicator.objective:.5g} of the requests are promised over 30 days; at "
            "this pace the budget of the month is gone early. Look at versions, replicas, queue.",
            runbooks=runbooks,
        )


def _alert(
    name: str,
    expr: str,
    labels: Mapping[str, str],
    *,
    summary: str,
    description: str,
    runbooks: str,
) -> Rule:
    annotations = {
        "summary": summary,
        "description": description,
        "runbook_url": f"{runbooks.rstrip('/')}/{name}.md",
    }
    return {"alert": name, "expr": expr, "labels": dict(labels), "annotations": annotations}


def _record(name: str, expr: str, labels: Mapping[str, str]) -> Rule:
    return {"record": name, "expr": expr, "labels": dict(labels)}


def _ratio(window: str, labels: Mapping[str, str]) -> str:
    return f"{_RATIO}{window}{_selector(labels)}"


def _selector(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def _budget(indicator: _Indicator) -> str:
    """The share that may fail, without the noise of binary fractions."""
    return f"{1 - indicator.objective:.6g}"
