"""Samples of rollouts for the judge: request by request, from a seed."""

import random
from typing import Any

from tunesmith_api.modeldeployment.limits import Limits, Metric, MetricLimits
from tunesmith_engine.rollout.samples import Arm, Sample

SECONDS = 600.0


def limits_of(*metrics: Metric, **settings: Any) -> Limits:
    """Limits on these metrics alone, with their default effects."""
    chosen: dict[str, Any] = {"metrics": {metric: MetricLimits() for metric in metrics}}
    return Limits(**{**chosen, "deadline_seconds": SECONDS, **settings})


def a_rollout(
    *,
    seed: int = 0,
    num: int = 3000,
    share: float = 0.5,
    errors: tuple[float, float] = (0.005, 0.005),
    slowdown: float = 1.0,
    quality_loss: float | None = None,
) -> list[Sample]:
    """`num` requests over ten minutes, in the order of their arrival.

    `errors` are the rates of stable and of the candidate.
    """
    rng = random.Random(seed)
    samples = []
    for time_s in sorted(rng.uniform(0, SECONDS) for _ in range(num)):
        is_candidate = rng.random() < share
        error = rng.random() < errors[is_candidate]
        ttft = rng.lognormvariate(-1.4, 0.5) * (slowdown if is_candidate else 1.0)
        noise = rng.gauss(0, 0.3)
        has_quality = is_candidate and quality_loss is not None
        samples.append(
            Sample(
                arm=Arm.CANDIDATE if is_candidate else Arm.STABLE,
                time_seconds=time_s,
                error=error,
                ttft_seconds=None if error else ttft,
                itl_seconds=None if error else 0.02,
                output_tokens=None if error else 1 + int(rng.expovariate(1 / 100)),
                refusal=False,
                quality_loss=(quality_loss or 0.0) + noise if has_quality else None,
            )
        )
    return samples
