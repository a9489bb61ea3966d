"""What a replica's pace makes of traffic: the share of its probes, and how soon a change is seen.

Time is simulated, the decisions are the replica's own. Requests come at random, each with as many
tokens; a probe takes as many as the fingerprints of the 135M model did in the mean. How many probes
it takes until a change is told is measured by `artifactDrift`.
"""

import random
import statistics
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tunesmith_serving.replica.probe_pace import ProbePace
from tunesmith_serving.replica.settings import ReplicaSettings

SEED: Final = 15
TOKENS_PER_SECOND: Final = (0, 50, 250, 550, 1_000, 2_500, 5_000, 20_000)
PROBE_TOKENS: Final = 64
_REQUEST_TOKENS: Final = 500
_HOURS: Final = 24
_CHANGES: Final = 2_000


def measure(home: Path) -> dict[str, Any]:  # noqa: ARG001 - as every benchmark
    """By tokens a second: the share of the probes, and seconds until one and two of them."""
    fields = ReplicaSettings.model_fields
    pace = ProbePace(
        shortest_seconds=fields["probe_seconds"].default,
        longest_seconds=fields["max_probe_seconds"].default,
        fraction=fields["probe_token_fraction"].default,
    )
    traffic = {str(rate): _day(pace, rate) for rate in TOKENS_PER_SECOND}
    return {"unit": "seconds; percent of the tokens served", "seed": SEED, **traffic}


def _day(pace: ProbePace, rate: int) -> dict[str, Any]:
    draw = random.Random(SEED)
    times, served = [0.0], 0.0
    while times[-1] < _HOURS * 3600:
        gap, tokens = _until_due(pace, rate, draw)
        times.append(times[-1] + gap)
        served += tokens
    probed = PROBE_TOKENS * (len(times) - 1)
    changes = [draw.uniform(0, times[-3]) for _ in range(_CHANGES)]
    return {
        "percentOfTokens": round(100 * probed / served, 3) if served else None,
        "probeTokensPerSecond": round(probed / times[-1], 2),
        "between": statistics.median(later - early for early, later in pairwise(times)),
        "untilOneProbe": _seconds(times, changes, number=1),
        "untilTwoProbes": _seconds(times, changes, number=2),
    }


def _until_due(pace: ProbePace, rate: int, draw: random.Random) -> tuple[float, float]:
    """Seconds until the next probe, and what is served meanwhile."""
    seconds = served = 0.0
    while not pace.is_due(seconds=seconds, spent=PROBE_TOKENS, served=served):
        pause = pace.pause(seconds=seconds)
        seconds += pause
        served += _REQUEST_TOKENS * _poisson(pause * rate / _REQUEST_TOKENS, draw)
    return seconds, served


def _poisson(mean: float, draw: random.Random) -> int:
    """How many requests come, of so many in the mean."""
    number, left = 0, mean
    while mean and (left := left - draw.expovariate(1.0)) > 0:
        number += 1
    return number


def _seconds(times: list[float], changes: list[float], *, number: int) -> dict[str, float]:
    """From a change to the probe so many after it."""
    waits = [times[bisect_left(times, change) + number - 1] - change for change in changes]
    return {"median": round(statistics.median(waits), 1), "slowest": round(max(waits), 1)}
