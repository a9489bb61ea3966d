"""The judge of rollouts on simulated canaries, looked at every 10 s; other judges on the same ones.

False rollbacks of candidates that are the same as stable, and power against those that are worse:
time to first token up by a fifth, a point more of errors, answers that lose 0.1 nats a token.
Simulated, on the CPU: it says what the statistics do, not what a server does.
"""

import statistics
import sys
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from other_judges import (
    ARGO_FAILURES,
    ARGO_LEVEL,
    ARGO_SUCCESS,
    BOUND,
    FLAGGER_FAILURES,
    FLAGGER_LEVEL,
    FLAGGER_SUCCESS,
    fixed_thresholds,
    highest_ttft_s,
    mann_whitney,
)
from simulated_canaries import LENGTH_S, REQUESTS_PER_S, Scenario, simulate

from tunesmith_api.modeldeployment.limits import DEFAULT_METRICS, Limits, Metric, MetricLimits
from tunesmith_engine.rollout.columns import Columns, window_end_s
from tunesmith_engine.rollout.eprocess import Flags
from tunesmith_engine.rollout.judge import Analysis, Decision

SEED = 14
NUM_SAME, NUM_WORSE = 1000, 200
LIMITS = Limits(
    deadline_seconds=LENGTH_S,
    metrics={metric: MetricLimits() for metric in (*DEFAULT_METRICS, Metric.QUALITY_LOSS)},
)
BURST_LIMITS = Limits(deadline_seconds=LENGTH_S)
BY_CLUSTER = LIMITS.model_copy(update={"unit": "cluster"})
CHATS = Scenario(requests_per_conversation=30, spread=0.5)
SCENARIOS = {
    "same": (Scenario(), NUM_SAME),
    "ttftUpByAFifth": (Scenario(slowdown=1.2), NUM_WORSE),
    "errorsUpByAPoint": (Scenario(more_errors=0.01), NUM_WORSE),
    "qualityLoss": (Scenario(quality_loss=0.1), NUM_WORSE),
    "sameTenPercent": (Scenario(share=0.1), NUM_WORSE),
    "ttftUpByAFifthTenPercent": (Scenario(slowdown=1.2, share=0.1), NUM_WORSE),
    "sameConversations": (CHATS, NUM_WORSE),
}
# Candidates that fail: the share of traffic, which part of their requests, and from when on.
BURSTS = {
    f"{share:.0%} of traffic, {rate:.0%} fail from {begin:g} s": (share, rate, begin)
    for share in (0.05, 0.5)
    for rate in (1.0, 0.3)
    for begin in (0.0, 600.0)
}
NUM_BURSTS = 100
# When each judge decided, in seconds, and what; None: never.
Outcome = tuple[str, float] | None


def measure(home: Path) -> dict[str, Any]:
    """Shares of rollbacks and promotions with intervals, and the time to them."""
    del home  # Nothing is kept: a canary is made again from its seed.
    results: dict[str, Any] = {}
    for number, (name, (scenario, num)) in enumerate(SCENARIOS.items()):
        print(f"bench: judge: {name}, {num} canaries", file=sys.stderr, flush=True)
        outcomes: dict[str, list[Outcome]] = {}
        for run in range(num):
            columns = simulate(scenario, np.random.default_rng([SEED, number, run]))
            for judge, outcome in _judged(columns, has_conversations=scenario is CHATS).items():
                outcomes.setdefault(judge, []).append(outcome)
        results[name] = {judge: _summary(seen) for judge, seen in outcomes.items()}
    return {
        "unit": "share of simulated canaries; seconds since the canary began",
        "secondsEach": LENGTH_S,
        "requestsPerSecond": REQUESTS_PER_S,
        "lookEverySeconds": LIMITS.window_seconds,
        "alpha": LIMITS.alpha,
        "scenarios": results,
        "bursts": {
            name: _burst(burst, number) for number, (name, burst) in enumerate(BURSTS.items())
        },
        "seed": SEED,
        "versions": {"numpy": np.__version__},
    }


def _judged(columns: Columns, *, has_conversations: bool) -> dict[str, Outcome]:
    """What every judge decides about one canary."""
    outcomes = {"tunesmith": _ours(columns, LIMITS)}
    if has_conversations:
        outcomes["tunesmithByConversation"] = _ours(columns, BY_CLUSTER)
    # At our looks, and at intervals of a minute as their examples have them.
    checks: dict[str, tuple[float, float, int, int]] = {
        "flagger": (FLAGGER_SUCCESS, FLAGGER_LEVEL, FLAGGER_FAILURES, 1),
        "flaggerEveryMinute": (FLAGGER_SUCCESS, FLAGGER_LEVEL, FLAGGER_FAILURES, 6),
        "argoRollouts": (ARGO_SUCCESS, ARGO_LEVEL, ARGO_FAILURES, 1),
        "argoRolloutsEveryMinute": (ARGO_SUCCESS, ARGO_LEVEL, ARGO_FAILURES, 6),
    }
    for name, (success, level, failures, every) in checks.items():
        outcomes[name] = _theirs(
            fixed_thresholds(
                columns,
                LIMITS,
                success=success,
                level=level,
                failures=failures,
                every=every,
                bound_s=BOUND * _HIGHEST_TTFT_S[level],
            )
        )
    outcomes["kayenta"] = _theirs(
        mann_whitney(columns, LIMITS, ("error", "incomplete", "ttft_seconds", "itl_seconds"))
    )
    return outcomes


_HIGHEST_TTFT_S = {level: highest_ttft_s(level) for level in (FLAGGER_LEVEL, ARGO_LEVEL)}


def _ours(columns: Columns, limits: Limits) -> Outcome:
    analysis = Analysis(columns, limits, now_seconds=LENGTH_S)
    look = analysis.deciding_look()
    if analysis.trip is not None:
        return Decision.ROLLBACK.value, analysis.trip.at_seconds
    if look is None:
        return None
    return analysis.decision_at(look)[0].value, window_end_s(limits, look)


def _theirs(rolled_back: Flags) -> Outcome:
    """They know no promotion by evidence: what was not rolled back by the end is promoted."""
    if rolled_back.any():
        return Decision.ROLLBACK.value, window_end_s(LIMITS, int(np.argmax(rolled_back)))
    return Decision.PROMOTE.value, LENGTH_S


def _burst(burst: tuple[float, float, float], number: int) -> dict[str, Any]:
    """Medians of the seconds and of the failed requests until a rollback, with the breaker or not.

    Without it, the judge alone decides, after the warm-up and with enough samples.
    """
    share, rate, begin = burst
    print(f"bench: judge: burst {number + 1} of {len(BURSTS)}", file=sys.stderr, flush=True)
    seen: dict[str, list[tuple[float, int]]] = {"withBreaker": [], "without": []}
    for run in range(NUM_BURSTS):
        rng = np.random.default_rng([SEED, 100 + number, run])
        columns = simulate(Scenario(share=share), rng)
        fails = columns.is_candidate & (columns.time_s >= begin)
        fails &= rng.random(len(fails)) < rate
        error = np.where(fails, 1.0, columns.fields["error"])
        columns = replace(columns, fields={**columns.fields, "error": error})
        analysis = Analysis(columns, BURST_LIMITS, now_seconds=LENGTH_S)
        looks = [
            window_end_s(BURST_LIMITS, look)
            for look in range(analysis.num_looks)
            if analysis.decision_at(look)[0] is Decision.ROLLBACK
        ]
        times = {"without": looks[:1], "withBreaker": looks[:1]}
        if analysis.trip is not None:
            times["withBreaker"] = [analysis.trip.at_seconds]
        for name, (end_s,) in times.items():
            seen[name].append((end_s - begin, int(np.sum(fails & (columns.time_s <= end_s)))))
    return {
        name: {
            "medianSeconds": statistics.median(seconds for seconds, _ in outcomes),
            "medianFailedRequests": statistics.median(failed for _, failed in outcomes),
        }
        for name, outcomes in seen.items()
    }


def _summary(outcomes: list[Outcome]) -> dict[str, Any]:
    summary: dict[str, Any] = {"n": len(outcomes)}
    for decision in (Decision.ROLLBACK, Decision.PROMOTE):
        times = [outcome[1] for outcome in outcomes if outcome and outcome[0] == decision]
        lower, upper = _wilson(len(times), len(outcomes))
        summary[decision.value] = {
            "share": round(len(times) / len(outcomes), 4),
            "interval95": [round(lower, 4), round(upper, 4)],
            "medianSeconds": round(statistics.median(times)) if times else None,
        }
    return summary


def _wilson(num: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (JASA 22, 1927)."""
    z = 1.96
    centre = (num + z * z / 2) / (of + z * z)
    reach = z / (of + z * z) * sqrt(num * (of - num) / of + z * z / 4)
    return max(0.0, centre - reach), min(1.0, centre + reach)
