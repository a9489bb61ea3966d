"""Canaries that are simulated request by request, for `judge.py`: what two arms would have shown.

Nothing of it is measured on a server. The shapes are those that serving has: heavy-tailed latencies
that move with a load which both arms share, rare failures, and a candidate that starts cold.
"""

from dataclasses import dataclass, field

import numpy as np

from tunesmith_engine.rollout.columns import Columns
from tunesmith_engine.rollout.eprocess import Floats

LENGTH_S = 1800.0
REQUESTS_PER_S = 5.0
# Lognormal medians and sigmas: a small model on one accelerator, at moderate load.
TTFT_S, TTFT_SIGMA = 0.25, 0.5
ITL_S, ITL_SIGMA = 0.025, 0.25
TOKENS, TOKENS_SIGMA = 150.0, 0.8
ERROR_RATE, INCOMPLETE_RATE = 0.005, 0.001
QUALITY_SIGMA = 0.3
COLD_S = 60.0
COLD_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """How the candidate differs from stable, and how the traffic is made.

    Conversations, where there are some, have a speed, a length and a rate of errors of their own,
    and all their requests go to one arm.
    """

    slowdown: float = 1.0
    more_errors: float = 0.0
    quality_loss: float = 0.0
    share: float = 0.5
    requests_per_conversation: int = 1
    spread: float = field(default=0.0)


def load_factors(time_s: Floats, phase: float) -> Floats:
    """How much longer everything takes at a moment: a wave of 20 minutes, a third up and down."""
    factors: Floats = np.exp(0.3 * np.sin(2 * np.pi * time_s / 1200 + phase))
    return factors


def simulate(scenario: Scenario, rng: np.random.Generator) -> Columns:
    """The requests of one canary, in the order in which they arrive."""
    num = rng.poisson(REQUESTS_PER_S * LENGTH_S)
    per_conversation = scenario.requests_per_conversation
    num_conversations = max(1, num // per_conversation)
    if per_conversation == 1:
        conversation = np.arange(num)
        time_s = np.sort(rng.uniform(0, LENGTH_S, num))
    else:
        conversation = rng.integers(num_conversations, size=num)
        begun = rng.uniform(0, LENGTH_S, num_conversations)[conversation]
        time_s = begun + rng.exponential(120.0, num)
        order = np.argsort(time_s)
        conversation, time_s = conversation[order], time_s[order]
    num_ids = int(conversation.max()) + 1
    is_candidate = (rng.random(num_ids) < scenario.share)[conversation]
    own = scenario.spread * rng.standard_normal((3, num_ids))[:, conversation]
    slow = np.where(is_candidate, scenario.slowdown, 1.0) * np.exp(own[0])
    cold = np.where(is_candidate & (time_s < COLD_S), COLD_FACTOR, 1.0)
    load = load_factors(time_s, rng.uniform(0, 2 * np.pi))
    rate = ERROR_RATE * np.exp(own[1]) + scenario.more_errors * is_candidate
    error = rng.random(num) < rate
    answered = np.where(error, np.nan, 1.0)
    loss = scenario.quality_loss + QUALITY_SIGMA * rng.standard_normal(num)
    columns = {
        "error": error.astype(float),
        "incomplete": (~error & (rng.random(num) < INCOMPLETE_RATE)).astype(float),
        "refusal": np.full(num, np.nan),
        "ttft_seconds": answered
        * (slow * cold * load * TTFT_S * np.exp(TTFT_SIGMA * rng.standard_normal(num))),
        "itl_seconds": answered
        * (load * ITL_S * np.exp(own[0] + ITL_SIGMA * rng.standard_normal(num))),
        "output_tokens": answered
        * np.ceil(TOKENS * np.exp(own[2] + TOKENS_SIGMA * rng.standard_normal(num))),
        "quality_loss": np.where(is_candidate, answered * loss, np.nan),
    }
    kept = time_s < LENGTH_S
    return Columns(
        time_s=time_s[kept],
        is_candidate=is_candidate[kept],
        cluster=conversation[kept].astype(np.int64),
        fields={name: column[kept] for name, column in columns.items()},
    )
