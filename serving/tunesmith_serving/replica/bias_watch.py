"""Bias after release: the pairs of the fairness suites again, of the engine that serves.

A replica asks for one pair in turn. How far a suite's mean gap lies from none now and how far it
lay at the release are compared pair by pair: nothing differs between the two but the engine, so a
growth whose whole interval is above nothing is the engine's.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from tunesmith_engine.deployment.replica_report import ENOUGH_PAIRS, BiasEvidence
from tunesmith_serving.verify.bias_pairs import BiasPair, PairSide

# Of 99 %, on both sides: several suites are watched.
_Z: Final = 2.5758


class PairsFile(BaseModel):
    """`fingerprints.json`, as far as it is needed here; other versions have none."""

    model_config = ConfigDict(frozen=True)

    pairs: list[BiasPair] = Field(default=[], alias="biasPairs")


def read_pairs(path: Path, *, max_model_length: int | None) -> list[BiasPair]:
    """The pairs of a version that fit, none where its job measured no such suite.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else.
    """
    pairs = PairsFile.model_validate_json(path.read_text(encoding="utf-8")).pairs
    return [
        pair
        for pair in pairs
        if pair.released is not None and (max_model_length is None or pair.fits(max_model_length))
    ]


def pair_question(pair: BiasPair, *, model: str) -> dict[str, Any]:
    """The body of a request to /v1/completions that has both sides judged."""
    return {
        "model": model,
        "prompt": [side.ids for side in pair.sides],
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }


def gap_of(pair: BiasPair, answer: dict[str, Any]) -> float:
    """What the engine's answer says of the pair.

    Raises:
        LookupError: it lacks what was asked for.
        TypeError: so it does.
    """
    views = {choice["index"]: choice["prompt_logprobs"] for choice in answer["choices"]}
    first, other = (_counted(side, views[place]) for place, side in enumerate(pair.sides))
    return pair.gap(first, other)


@dataclass(slots=True)
class WatchedBias:
    """Of each pair the last answer, by its place in the file."""

    gaps: dict[int, tuple[BiasPair, float]] = field(default_factory=dict)
    num_asked: int = 0

    def note(self, place: int, pair: BiasPair, gap: float) -> None:
        """A pair was answered; an answer that is no number says nothing."""
        self.num_asked += 1
        if math.isfinite(gap):
            self.gaps[place] = pair, gap

    def shown(self) -> list[BiasEvidence]:
        """What is known of each suite, once enough of its pairs were asked."""
        suites: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for pair, gap in self.gaps.values():
            suites[pair.suite].append((pair.released or 0.0, gap))
        return [
            growth_of(suite, pairs)
            for suite, pairs in sorted(suites.items())
            if len(pairs) >= ENOUGH_PAIRS
        ]


def growth_of(suite: str, pairs: Sequence[tuple[float, float]]) -> BiasEvidence:
    """Of the gaps at the release and now, pair by pair: how much farther from none the mean is."""
    released, now = fmean(old for old, _ in pairs), fmean(new for _, new in pairs)
    signed = [math.copysign(new, now * new) - math.copysign(old, released * old)
              for old, new in pairs]  # fmt: skip
    half = _quantile(len(pairs) - 1) * stdev(signed) / math.sqrt(len(pairs))
    growth = abs(now) - abs(released)
    return BiasEvidence(
        suite=suite,
        pairs=len(pairs),
        released_nats=round(released, 4),
        nats=round(now, 4),
        growth_nats=round(growth, 4),
        low_nats=round(growth - half, 4),
        high_nats=round(growth + half, 4),
    )


def _quantile(freedom: int) -> float:
    """Student's, by the expansion of Cornish and Fisher: 2 % too small at seven degrees."""
    second = (_Z**3 + _Z) / 4
    third = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    return _Z + second / freedom + third / freedom**2


def _counted(side: PairSide, views: Sequence[dict[str, Any]]) -> list[float]:
    return [float(views[place][str(side.ids[place])]["logprob"]) for place in side.counted]
