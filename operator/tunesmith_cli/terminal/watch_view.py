"""A `DeploymentView` as lines of text: what `tunesmith watch` shows, on a terminal or in a pipe."""

from collections.abc import Iterable, Iterator
from typing import Final

from tunesmith_api.modeldeployment.monitoring_status import (
    ArtifactStatus,
    CostStatus,
    SloStatus,
    TrafficStatus,
)
from tunesmith_cli.formats import latency, number, percent
from tunesmith_cli.terminal.deployment import PHASE_COLOURS, verdict_lines
from tunesmith_cli.terminal.style import Style, plain, table
from tunesmith_engine.monitoring.view import DeploymentView, RevisionView

Rows = list[tuple[str, ...]]
_ROLES: Final = ("", "version", "weight", "achieved", "ready", "requests", "errors", "broken off")
_TIMES: Final = ("", "TTFT p50", "p95", "p99", "ITL p50", "p95", "p99", "tokens")


def view_lines(view: DeploymentView, *, style: Style) -> list[str]:
    """The whole view, the most urgent first."""
    note = "" if view.served else " (nothing serves it now; tunesmith deploy does)"
    phase = style.paint(view.phase, "bold", PHASE_COLOURS.get(view.phase, "yellow"))
    lines = [f"{view.name} · {phase} · {view.time:%H:%M:%S} UTC{note}"]
    if view.reason:
        lines.append(f"  {view.reason}: {plain(view.message)}")
    lines += [
        style.paint(f"  ! {', '.join(warned.types)}: {plain(warned.message)}".rstrip(": "), "red")
        for warned in view.warnings
    ]
    for block in _blocks(view):
        lines += ["", *(f"  {line}" for line in block)]
    if view.endpoint:
        lines += ["", f"  endpoint {view.endpoint}"]
    return [*lines, *([f"  {view.more}"] if view.more else [])]


def _blocks(view: DeploymentView) -> Iterator[list[str]]:
    if view.revisions:
        yield table([_ROLES, *map(_share, view.revisions)]).splitlines()
    timed = [_latencies(revision) for revision in view.revisions if revision.traffic]
    if timed:
        yield [
            *table([_TIMES, *timed]).splitlines(),
            f"of the last {view.window_seconds:.0f} s",
        ]
    else:
        yield [f"traffic: {view.missing.traffic}"]
    if troubled := list(_troubled(view)):
        yield troubled
    missing = view.missing
    yield verdict_lines(view.verdict) if view.verdict else [f"verdict: {missing.verdict}"]
    yield _promises(view.slos) or [f"promises: {missing.slos}"]
    yield [f"cost: {_cost(view.cost) or missing.cost}"]
    yield [
        *_drift(view.traffic_drift, missing=missing.drift),
        f"artifact: {_artifact(view.artifact) or missing.artifact}",
    ]


def _share(revision: RevisionView) -> tuple[str, ...]:
    traffic, achieved = revision.traffic, revision.achieved_weight
    return (
        revision.role,
        revision.version,
        f"{revision.mirror} % copies" if revision.mirror else f"{revision.weight} %",
        "-" if achieved is None else f"{achieved:.0f} %",
        f"{revision.ready_replicas}/{revision.replicas}",
        "-" if traffic is None else f"{number(traffic.requests_per_second)}/s",
        _part(traffic.errors if traffic else None),
        _part(traffic.incomplete if traffic else None),
    )


def _latencies(revision: RevisionView) -> tuple[str, ...]:
    traffic = revision.traffic
    times: list[str] = []
    for percentiles in (traffic.ttft, traffic.itl) if traffic else ():
        if percentiles is None:
            times += ["-"] * 3
        else:
            times += map(latency, (percentiles.p50, percentiles.p95, percentiles.p99))
    rate = number(traffic.tokens_per_second) if traffic else "-"
    return (revision.version, *times, f"{rate}/s")


def _troubled(view: DeploymentView) -> Iterator[str]:
    """Replicas that are not ready, or were started again."""
    for replica in view.replicas:
        if replica.state == "Ready" and not replica.restarts:
            continue
        again = f", started again {replica.restarts} ×" if replica.restarts else ""
        said = f": {plain(replica.message)}" if replica.message else ""
        yield f"replica {replica.name} of {replica.version}: {replica.state}{again}{said}"


def _promises(slos: Iterable[SloStatus]) -> list[str]:
    rows: Rows = [
        (
            slo.name,
            f"{100 * slo.objective:g} %",
            "-" if slo.burn_rate is None else f"{number(slo.burn_rate)} ×",
            _part(slo.budget_remaining),
            "burning" if slo.burning else "",
        )
        for slo in slos
    ]
    head = ("promise", "objective", "burn rate", "budget left", "")
    return table([head, *rows]).splitlines() if rows else []


def _cost(cost: CostStatus | None) -> str:
    if cost is None:
        return ""
    parts = [
        f"{number(cost.per_million_tokens)} per million tokens"
        if cost.per_million_tokens is not None
        else "",
        f"{number(cost.per_request)} per request" if cost.per_request is not None else "",
        f"{number(cost.accelerator_hours)} accelerator hours in 30 days"
        if cost.accelerator_hours
        else "",
    ]
    return ", ".join(filter(None, parts))


def _drift(traffic: TrafficStatus | None, *, missing: str) -> list[str]:
    if traffic is None or not traffic.signals:
        return [f"drift of traffic: {missing or 'no signal was seen yet'}"]
    limit = traffic.threshold_log_e
    head = ("drift of traffic", "evidence", "effect", "")
    rows: Rows = [
        (
            each.signal,
            f"{each.log_e:.1f}" + (f" of {limit:.1f}" if limit else ""),
            f"{each.effect:.2f}",
            "drifted" if each.signal in traffic.drifted else "",
        )
        for each in traffic.signals
    ]
    return [*table([head, *rows]).splitlines(), f"of {traffic.requests:,} requests"]


def _artifact(artifact: ArtifactStatus | None) -> str:
    if artifact is None:
        return ""
    if artifact.mismatch:
        return f"{artifact.version} does not answer as published: {plain(artifact.message)}"
    if artifact.worst_nats is None:
        return "not asked yet"
    return (
        f"{artifact.version} answers as published; the worst of {artifact.probes:,} probes is "
        f"{number(artifact.worst_nats)} nats off{_loss(artifact.loss_nats)}"
    )


def _loss(nats: float | None) -> str:
    return "" if nats is None else f", and known answers are {nats:+.3f} nats a token less likely"


def _part(part: float | None) -> str:
    return "-" if part is None else percent(part)
