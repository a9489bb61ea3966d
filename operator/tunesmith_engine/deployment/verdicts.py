"""The judge's verdict as the status keeps it, and in words with its numbers."""

from collections.abc import Sequence
from datetime import datetime
from math import isfinite
from typing import Final

from tunesmith_api.modeldeployment.limits import METRICS, Limits, Metric
from tunesmith_api.modeldeployment.status import (
    CandidateStatus,
    MetricEvidence,
    QueryStatus,
    VerdictStatus,
)
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.deployment.deployment_state import Context
from tunesmith_engine.rollout.breaker import Trip
from tunesmith_engine.rollout.judge import Cause, Decision, Evidence, Verdict
from tunesmith_engine.rollout.queries import QueryEvidence

# Evidence moves with every window; the status is written when its meaning does, or this often.
REFRESH_SECONDS: Final = 30.0


def is_past_deadline(context: Context, candidate: CandidateStatus) -> bool:
    """Whether time is up for a verdict: by the judge's clock, or by ours if it is silent."""
    verdict = context.seen.verdict
    if candidate.analysis_since is None:
        return False
    if verdict is not None and verdict.is_final:
        return verdict.decision == Decision.INCONCLUSIVE
    deadline = context.spec.rollout.analysis.deadline_seconds
    return context.elapsed_s(candidate.analysis_since) >= deadline


def next_verdict(
    before: VerdictStatus | None, candidate: CandidateStatus | None, context: Context
) -> VerdictStatus | None:
    """The verdict to store: the one before unless it means something else, or is old."""
    verdict = context.seen.verdict
    if verdict is None or candidate is None or candidate.analysis_since is None:
        return before
    after = _stored(verdict, candidate, context.spec.rollout.analysis, now=context.now)
    if before is None or _meaning(before) != _meaning(after):
        return after
    is_old = abs((context.now - before.time).total_seconds()) >= REFRESH_SECONDS
    is_same = after.model_copy(update={"time": before.time}) == before
    return after if is_old and not is_same else before


def in_words(verdict: Verdict | None, limits: Limits) -> str:
    """What the verdict rests on, or what would settle it."""
    if verdict is None:
        return "no metrics of the replicas yet, so no verdict"
    if verdict.decision == Decision.INCONCLUSIVE:
        return _what_would_settle(verdict, limits)
    shown = next((row for row in verdict.evidence if row.metric == verdict.metric), None)
    if verdict.decision == Decision.ROLLBACK:
        return _what_is_worse(verdict, shown, limits)
    if shown is None:
        return f"the judge decided {verdict.decision}"
    numbers = f"{shown.num_candidate} requests, stable's {shown.num_stable}"
    effect = f"{shown.metric} {_amount(shown.metric, shown.effect)}"
    limit = _amount(shown.metric, limits.minimum_effect(shown.metric))
    return (
        f"no metric is worse by what matters; the last to show it: {effect} of {limit}; {numbers}"
    )


def _what_is_worse(verdict: Verdict, shown: Evidence | None, limits: Limits) -> str:
    if verdict.trip is not None:
        return _failing(verdict.trip)
    if verdict.cause == Cause.QUERY_WORSE:
        return _broken_bound(verdict.queries, limits)
    if shown is None:
        return f"the judge decided {verdict.decision}"
    effect = f"{shown.metric} {_amount(shown.metric, shown.effect)}"
    limit = _amount(shown.metric, limits.minimum_effect(shown.metric))
    return (
        f"{effect} against stable, at least {_amount(shown.metric, shown.lower)} ({limit} "
        f"matters); {shown.num_candidate} requests, stable's {shown.num_stable}; e-value "
        f"{verdict.harm:.3g} of {1 / limits.alpha:.3g}"
    )


def _failing(trip: Trip) -> str:
    return (
        f"{100 * trip.candidate:.3g} % of its {trip.num_candidate} requests failed, of stable's "
        f"{trip.num_stable} {100 * trip.stable:.3g} %, the warm-up included"
    )


def _broken_bound(queries: Sequence[QueryEvidence], limits: Limits) -> str:
    (query, seen), *_ = (
        (query, seen)
        for query, seen in zip(limits.queries, queries, strict=True)
        if seen.state == "bad"
    )
    return (
        f"query {query.name}: {query.consecutive} bad readings in a row, the last "
        f"{_number(seen.candidate)} against stable's {_number(seen.stable)}"
    )


def _missing_readings(queries: Sequence[QueryEvidence], limits: Limits) -> str:
    (query, seen), *_ = (
        (query, seen)
        for query, seen in zip(limits.queries, queries, strict=True)
        if seen.state != "good"
    )
    if not query.required:
        return f"query {query.name} has bad readings; one that is good would settle it"
    missing = query.consecutive - seen.num_good
    why = f"; the last has no number: {seen.problem}" if seen.problem else ""
    return f"{missing} more good readings in a row of query {query.name} would settle it{why}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _what_would_settle(verdict: Verdict, limits: Limits) -> str:
    if verdict.cause == Cause.TOO_FEW_SAMPLES or not verdict.evidence:
        # Quality is measured on the candidate's answers alone.
        counts = [
            min(row.num_stable, row.num_candidate)
            for row in verdict.evidence
            if METRICS[row.metric].compared != "mean"
        ]
        quality = "".join(
            f"; {row.metric} {_amount(row.metric, row.effect)} on {row.num_candidate} prompts"
            for row in verdict.evidence
            if METRICS[row.metric].compared == "mean" and row.num_candidate
        )
        return (
            f"{min(counts, default=0)} requests of each version after the warm-up, at least "
            f"{limits.minimum_samples} are needed (rollout.analysis.minimumSamples){quality}"
        )
    if verdict.metric is None:
        is_held = any(seen.state != "good" for seen in verdict.queries)
        return _missing_readings(verdict.queries, limits) if is_held else "not settled yet"
    if verdict.more_requests is None:
        return f"{verdict.metric} is not settled, and shows no trend that would settle it"
    return f"about {verdict.more_requests} more requests would settle {verdict.metric}"


def _amount(metric: Metric, effect: float | None) -> str:
    if effect is None or not isfinite(effect):
        return "unknown"
    match METRICS[metric].compared:
        case "rate":
            return f"{100 * effect:+.2g} points"
        case "ratio":
            return f"{100 * effect:+.3g} %"
        case _:
            return f"{effect:+.2g} nats"


def _stored(
    verdict: Verdict, candidate: CandidateStatus, limits: Limits, *, now: datetime
) -> VerdictStatus:
    return VerdictStatus(
        version=candidate.version,
        revision=candidate.revision,
        decision=verdict.decision.value,
        cause=verdict.cause,
        is_final=verdict.is_final,
        metric=verdict.metric,
        more_requests=verdict.more_requests,
        message=truncate_message(in_words(verdict, limits)),
        time=now,
        evidence=[_row(evidence) for evidence in verdict.evidence],
        queries=[_query_row(seen) for seen in verdict.queries],
    )


def _row(evidence: Evidence) -> MetricEvidence:
    return MetricEvidence(
        metric=evidence.metric,
        effect=_finite(evidence.effect),
        lower=_finite(evidence.lower),
        upper=_finite(evidence.upper),
        harm=_finite(evidence.harm) or 0.0,
        promotion=_finite(evidence.promotion) or 0.0,
        stable=evidence.num_stable,
        candidate=evidence.num_candidate,
    )


def _query_row(seen: QueryEvidence) -> QueryStatus:
    return QueryStatus(
        query=seen.name,
        state=seen.state,
        stable=_finite(seen.stable),
        candidate=_finite(seen.candidate),
        problem=seen.problem,
    )


def _finite(value: float | None) -> float | None:
    """Four digits of it; None where JSON has no number for it."""
    return None if value is None or not isfinite(value) else float(f"{value:.4g}")


def _meaning(verdict: VerdictStatus) -> tuple[str, str, str, bool]:
    return verdict.revision, verdict.decision, verdict.cause, verdict.is_final
