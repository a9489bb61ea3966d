"""The verdict on a rollout: promote, roll back, or not settled and what would settle it.

Pure: the same samples and limits give the same verdict, wherever and whenever they are judged. The
judge looks at the end of every window, and the first verdict stands; later samples change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, log
from typing import Final

import numpy as np

from tunesmith_api.modeldeployment.limits import Limits, Metric
from tunesmith_engine.rollout.breaker import Trip, breaker_limits, breaker_share, trip
from tunesmith_engine.rollout.columns import Columns, columns_of, count, window_end_s, windows_over
from tunesmith_engine.rollout.eprocess import Flags, Floats
from tunesmith_engine.rollout.evidence import MetricEvidence, Outlook
from tunesmith_engine.rollout.queries import QueryCourse, QueryEvidence, Reading
from tunesmith_engine.rollout.samples import Sample

# Beyond it a float overflows; nobody needs to know how much more certain it is.
_LARGEST_LOG: Final = 700.0


class Decision(StrEnum):
    """What is to be done with the candidate."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    INCONCLUSIVE = "inconclusive"


class Cause(StrEnum):
    """Why the decision is what it is."""

    NO_WORSE = "NoWorse"
    WORSE = "Worse"
    FAILING = "Failing"
    QUERY_WORSE = "QueryWorse"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    TOO_FEW_SAMPLES = "TooFewSamples"
    EVIDENCE_PENDING = "EvidencePending"
    QUERY_PENDING = "QueryPending"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one metric shows. Effects are those of `limits.METRICS`: larger is worse.

    `harm` is the e-value against "no worse", `promotion` the one against "worse by the minimum
    effect". The bounds hold at all looks at once with 1 - alpha, for this metric by itself.
    """

    metric: Metric
    effect: float | None
    lower: float
    upper: float
    harm: float
    promotion: float
    num_stable: int
    num_candidate: int
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, why, since when, and on what evidence.

    `at_seconds` is the look that the evidence is of; None: no window is over. A verdict that
    `is_final` does not change with further samples. `harm` is the e-value over all metrics.
    `metric` is the one that speaks loudest for a rollback, that was the last to allow a promotion,
    or that is farthest from being settled. `trip` is what the breaker tripped by, where it did, and
    `queries` has the user's own.
    """

    decision: Decision
    cause: Cause
    is_final: bool
    at_seconds: float | None
    harm: float
    metric: Metric | None
    more_requests: int | None
    evidence: tuple[Evidence, ...]
    queries: tuple[QueryEvidence, ...] = ()
    trip: Trip | None = None


def judge(
    samples: Sequence[Sample],
    limits: Limits,
    *,
    now_seconds: float,
    readings: Sequence[Reading] = (),
) -> Verdict:
    """The verdict at `now_seconds` after the rollout began; `readings` are of `limits.queries`.

    The promise rests on samples in which every request that arrived before the last of them has
    its place: answers that are still under way hold the later ones back, up to their timeout.
    """
    columns = columns_of(samples)
    return Analysis(columns, limits, now_seconds=now_seconds, readings=readings).verdict()


def num_looks(limits: Limits, *, now_seconds: float) -> int:
    """How often there was something new to see by `now_seconds`, for the judge or its breaker."""
    breaker = breaker_limits(limits)
    early = windows_over(breaker, now_s=now_seconds) if breaker is not None else 0
    return windows_over(limits, now_s=now_seconds) + early


class Analysis:
    """All looks of a rollout up to a moment, and the breaker beside them."""

    def __init__(
        self,
        columns: Columns,
        limits: Limits,
        *,
        now_seconds: float,
        readings: Sequence[Reading] = (),
    ) -> None:
        self.limits = limits
        self._is_over = now_seconds >= limits.deadline_seconds
        counted = count(columns, limits, now_s=now_seconds)
        self.num_looks = counted.num_windows
        self._has_enough: Flags = (
            np.minimum(
                counted.requests_by_window(candidate=False),
                counted.requests_by_window(candidate=True),
            )
            >= limits.minimum_samples
        )
        self._has_prompts: Flags = counted.prompts_by_window() > 0
        self._metrics = [MetricEvidence(counted, limits, metric) for metric in limits.metrics]
        self._harm = [metric.harm_log_e() for metric in self._metrics]
        self._promotion = [metric.promotion_log_e() for metric in self._metrics]
        self._weighted_harm = self._weigh_harm()
        self._total_harm: Floats = np.logaddexp.reduce(self._weighted_harm, axis=0)
        ends = np.array([window_end_s(limits, look) for look in range(self.num_looks)])
        self._queries = [
            QueryCourse(query, readings, since_s=limits.warmup_seconds, ends_s=ends)
            for query in limits.queries
        ]
        found = trip(columns, limits, now_s=now_seconds)
        settled = _first(self._rolls_back() | self._promotes())
        is_earlier = found is not None and (settled is None or found.at_seconds < ends[settled])
        self.trip = found if is_earlier else None
        self._settled = None if is_earlier else settled
        self.last_look = self._last_look(ends)

    def deciding_look(self) -> int | None:
        """The first look with a verdict; None without one, and where the breaker came before it."""
        return self._settled

    def decision_at(self, look: int) -> tuple[Decision, Cause]:
        """What the samples up to a look say, without the evidence."""
        if self._is_worse()[look]:
            return Decision.ROLLBACK, Cause.WORSE
        if self._rolls_back()[look]:
            return Decision.ROLLBACK, Cause.QUERY_WORSE
        if self._promotes()[look]:
            return Decision.PROMOTE, Cause.NO_WORSE
        if self._is_over and look == self.num_looks - 1:
            return Decision.INCONCLUSIVE, Cause.DEADLINE_EXCEEDED
        if self._is_no_worse()[look]:
            return Decision.INCONCLUSIVE, Cause.QUERY_PENDING
        cause = Cause.EVIDENCE_PENDING if self._has_enough[look] else Cause.TOO_FEW_SAMPLES
        return Decision.INCONCLUSIVE, cause

    def verdict(self) -> Verdict:
        """The verdict that stands."""
        if self.trip is None:
            return self.verdict_at(self.last_look)
        seen = self.verdict_at(self.last_look)
        return replace(
            seen,
            decision=Decision.ROLLBACK,
            cause=Cause.FAILING,
            is_final=True,
            at_seconds=self.trip.at_seconds,
            harm=_e_value(self.trip.log_e),
            metric=Metric.ERRORS,
            more_requests=None,
            trip=self.trip,
        )

    def verdict_at(self, look: int) -> Verdict:
        """The verdict that stood at a look (-1: before the first)."""
        if look < 0:
            cause = Cause.DEADLINE_EXCEEDED if self._is_over else Cause.TOO_FEW_SAMPLES
            return Verdict(
                Decision.INCONCLUSIVE, cause, self._is_over, None, 1.0, None, None, evidence=()
            )
        decided = self.deciding_look()
        look = look if decided is None else min(look, decided)
        evidence = tuple(self.evidence_at(look, metric) for metric in self.limits.metrics)
        decision, cause = self.decision_at(look)
        metric, more = None, None
        if cause is Cause.WORSE:
            loudest = self._metrics[int(np.argmax(self._weighted_harm[:, look]))].metric
            metric = loudest if self._has_enough[look] else Metric.QUALITY_LOSS
        elif cause is Cause.NO_WORSE:
            metric = min(evidence, key=lambda seen: seen.promotion).metric
        elif decision is Decision.INCONCLUSIVE and not self._is_no_worse()[look]:
            metric, more = self._open_metric(evidence)
        return Verdict(
            decision=decision,
            cause=cause,
            is_final=look == decided or cause is Cause.DEADLINE_EXCEEDED,
            at_seconds=window_end_s(self.limits, look),
            harm=self.harm_at(look),
            metric=metric,
            more_requests=more,
            evidence=evidence,
            queries=tuple(query.evidence(look) for query in self._queries),
        )

    def harm_at(self, look: int) -> float:
        """The e-value of all metrics together against "no worse" at a look."""
        return _e_value(self._total_harm[look])

    def evidence_at(self, look: int, name: Metric) -> Evidence:
        """What a metric showed at a look."""
        index = list(self.limits.metrics).index(name)
        metric = self._metrics[index]
        lower, upper = metric.interval(look)
        promotion = _e_value(self._promotion[index][look])
        is_settled = promotion >= 1 / self.limits.alpha
        return Evidence(
            metric=name,
            effect=metric.effect(look),
            lower=lower,
            upper=upper,
            harm=_e_value(self._harm[index][look]),
            promotion=promotion,
            num_stable=metric.num_samples(look, candidate=False),
            num_candidate=metric.num_samples(look, candidate=True),
            outlook=Outlook("promote", 0) if is_settled else metric.outlook(look),
        )

    def _last_look(self, ends: Floats) -> int:
        """The look that the verdict is of: the deciding one, or the last there was; -1: none."""
        if self.trip is not None:
            return int(np.searchsorted(ends, self.trip.at_seconds, side="right")) - 1
        return self.num_looks - 1 if self._settled is None else self._settled

    def _weigh_harm(self) -> Floats:
        """The part of each metric in the evidence for a rollback, in logs.

        The weighted mean of e-values is one, whatever they have to do with each other (Vovk and
        Wang, "E-values: calibration, combination and applications", Annals of Statistics 49
        (2021)). It is never below the union bound, which asks one metric for 1 / (weight * alpha)
        by itself. A metric whose effect is nearer to none than to the minimum effect is left out:
        that only takes evidence away, so that a difference that is certain but does not matter
        rolls nothing back.
        """
        weights = np.array([limits.weight for limits in self.limits.metrics.values()])
        weights *= (1 - breaker_share(self.limits)) / weights.sum()
        nearer = np.stack([metric.is_nearer_to_harm() for metric in self._metrics])
        logs: Floats = np.where(nearer, np.stack(self._harm), -np.inf)
        weighted: Floats = logs + np.log(weights)[:, None]
        return weighted

    def _is_worse(self) -> Flags:
        """Where the evidence for a rollback is enough.

        Without enough requests, the quality on fixed prompts speaks alone: an e-process is valid
        with any number of samples, and the smallest number is there for what is not independent.
        """
        enough = log(1 / self.limits.alpha)
        is_worse: Flags = (self._total_harm >= enough) & self._has_enough
        if Metric.QUALITY_LOSS in self.limits.metrics:
            quality = self._weighted_harm[list(self.limits.metrics).index(Metric.QUALITY_LOSS)]
            is_worse = is_worse | ((quality >= enough) & self._has_prompts)
        return is_worse

    def _rolls_back(self) -> Flags:
        rolls_back = self._is_worse()
        for query in self._queries:
            rolls_back = rolls_back | query.rolls_back()
        return rolls_back

    def _promotes(self) -> Flags:
        promotes = self._is_no_worse() & ~self._rolls_back()
        for query in self._queries:
            promotes = promotes & query.promotes()
        return promotes

    def _is_no_worse(self) -> Flags:
        # Every metric has to refute its own minimum effect with all of alpha. A candidate that is
        # worse in one of them passes that one test with a chance of alpha at most, so the budget is
        # not divided (an intersection-union test; Berger, Technometrics 24, 1982).
        refuted = np.stack(self._promotion) >= log(1 / self.limits.alpha)
        is_no_worse: Flags = refuted.all(axis=0) & self._has_enough
        # Where a query still holds it back: what was refuted once stays so, by Ville's inequality.
        return np.logical_or.accumulate(is_no_worse) & ~self._is_worse()

    def _open_metric(self, evidence: Sequence[Evidence]) -> tuple[Metric | None, int | None]:
        """The metric that needs most, and how many more requests that is.

        One that leans to a rollback settles the rollout by itself; else all have to be promoted.
        """
        harmful = [seen for seen in evidence if seen.outlook.towards == "rollback"]
        still_open = [seen for seen in evidence if seen.promotion < 1 / self.limits.alpha]
        chosen = harmful or still_open
        if not chosen:
            return None, None
        needs = [
            (np.inf if seen.outlook.more_requests is None else seen.outlook.more_requests, seen)
            for seen in chosen
        ]
        pick = min if harmful else max
        most, seen = pick(needs, key=lambda need: need[0])
        return seen.metric, None if np.isinf(most) else int(most)


def _first(is_true: Flags) -> int | None:
    return int(np.argmax(is_true)) if is_true.any() else None


def _e_value(log_e: float) -> float:
    return exp(min(float(log_e), _LARGEST_LOG))
