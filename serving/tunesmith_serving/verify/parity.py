"""Judges vLLM's answers against the reference's: records in, verdict out, nothing else.

Two ways of computing are judged, because they run through different kernels:

- *forced*: prompt and reference answer go in together, so every token is judged given the same
  tokens before it, and one different choice does not spoil those that follow.
- *decoded*: vLLM answers by itself, one token at a time, up to and with its first different token;
  what follows has no reference. It then goes on behind the reference's own token (*resumed*), so
  that every token is judged in this way, too.

The worse of the two decides. Agreement is counted over so many tokens, and a model at the bound may
fall below it by chance: it is refused if even the highest share that the count leaves credible
(interval.py) lies below the bound. Fewer tokens than `ENOUGH_TOKENS` leave too much credible for
that, and are held to the bound as they stand. Means over all prompts hide one that is answered
wrongly, so each prompt is held against wider bounds of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_serving.verify.interval import share_interval

# Chosen after a false refusal at 23 of 27 tokens; what it catches still is in docs/log.md.
ENOUGH_TOKENS = 64
# A log-probability of minus infinity, or none at all, counts as this many nats of difference.
LARGEST_DIFFERENCE = 100.0
# How many times the bound on the mean difference of all prompts one prompt may differ, and how far
# vLLM may prefer a token of its own. Sound models with rounded activations were seen at 2.2 and 2.7
# times, other weights at 8.8: docs/log.md.
PROMPT_ALLOWANCE = 4.0
MARGIN_ALLOWANCE = 8.0


@dataclass(frozen=True, slots=True)
class TokenView:
    """How vLLM saw a token of the reference's answer.

    `logprob` is its log-probability in nats, `margin` how far vLLM's favourite lies above it.
    """

    logprob: float
    margin: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt in both engines.

    `forced` has a view of every token of the reference's answer, `decoded` one of each token up to
    and with the first that vLLM chose differently, `resumed` of those that follow.
    """

    reference_logprobs: Sequence[float]
    forced: Sequence[TokenView]
    decoded: Sequence[TokenView]
    resumed: Sequence[TokenView] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sums over the judged tokens of one way of computing."""

    num_tokens: int
    num_agreed: int
    sum_difference: float

    @property
    def agreement(self) -> float:
        """Part of the judged tokens that vLLM chose as the reference did."""
        return self.num_agreed / self.num_tokens

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest and the highest agreement that these tokens leave credible."""
        return share_interval(self.num_agreed, self.num_tokens)

    @property
    def is_enough(self) -> bool:
        """Whether there are tokens enough to allow for chance."""
        return self.num_tokens >= ENOUGH_TOKENS

    @property
    def highest_agreement(self) -> float:
        """What is held against the bound: the end of the interval, or the share of too few."""
        return self.interval[1] if self.is_enough else self.agreement

    @property
    def mean_difference(self) -> float:
        """Mean absolute difference of log-probabilities, in nats."""
        return self.sum_difference / self.num_tokens

    def __add__(self, other: "Comparison") -> "Comparison":
        """Both together."""
        return Comparison(
            num_tokens=self.num_tokens + other.num_tokens,
            num_agreed=self.num_agreed + other.num_agreed,
            sum_difference=self.sum_difference + other.sum_difference,
        )


@dataclass(frozen=True, slots=True)
class PromptParity:
    """The two comparisons of one prompt.

    `margin` is how far, in nats, vLLM put its own first different token above the reference's; 0 if
    there is none.
    """

    forced: Comparison
    decoded: Comparison
    margin: float = 0.0

    @property
    def agreement(self) -> float:
        """The lower of the two."""
        return min(self.forced.agreement, self.decoded.agreement)

    @property
    def mean_difference(self) -> float:
        """The larger of the two, in nats."""
        return max(self.forced.mean_difference, self.decoded.mean_difference)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All prompts together, and the bounds they were held against."""

    prompts: Sequence[PromptParity]
    total: PromptParity
    min_agreement: float
    max_difference: float

    @property
    def worse(self) -> Comparison:
        """The way of computing whose agreement decides."""
        ways = (self.total.forced, self.total.decoded)
        return min(ways, key=lambda way: way.highest_agreement)

    @property
    def holds(self) -> bool:
        """Whether both numbers keep their bounds, and every prompt its own."""
        return (
            self.worse.highest_agreement >= self.min_agreement
            and self.total.mean_difference <= self.max_difference
            and not self.broken
        )

    @property
    def broken(self) -> list[int]:
        """The places of the prompts that are off by more than a sound engine's can be."""
        return [
            place
            for place, each in enumerate(self.prompts)
            if each.forced.mean_difference > PROMPT_ALLOWANCE * self.max_difference
            or each.margin > MARGIN_ALLOWANCE * self.max_difference
        ]


def judge(
    answers: Sequence[Answer], *, tie: float, min_agreement: float, max_difference: float
) -> Verdict:
    """Compare every prompt and hold the sums against the bounds.

    A token counts as agreed if vLLM's favourite lies at most `tie` nats above it: between equal
    numbers neither engine's choice is wrong.

    Raises:
        ValueError: there is nothing to judge.
    """
    prompts = [
        PromptParity(
            forced=_compare(each.reference_logprobs, each.forced, tie=tie),
            decoded=_compare(each.reference_logprobs, [*each.decoded, *each.resumed], tie=tie),
            margin=_clipped(each.decoded[-1].margin),
        )
        for each in answers
    ]
    if not prompts:
        raise ValueError("no answers to judge")
    return Verdict(
        prompts=prompts,
        total=PromptParity(
            forced=_sum([each.forced for each in prompts]),
            decoded=_sum([each.decoded for each in prompts]),
            margin=max(each.margin for each in prompts),
        ),
        min_agreement=min_agreement,
        max_difference=max_difference,
    )


def _compare(reference: Sequence[float], views: Sequence[TokenView], *, tie: float) -> Comparison:
    pairs = zip(reference, views, strict=False)
    return Comparison(
        num_tokens=len(views),
        num_agreed=sum(view.margin <= tie for view in views),
        sum_difference=sum(_difference(view.logprob, logprob) for logprob, view in pairs),
    )


def _difference(found: float, expected: float) -> float:
    return _clipped(abs(found - expected))


def _clipped(nats: float) -> float:
    return min(nats, LARGEST_DIFFERENCE) if math.isfinite(nats) else LARGEST_DIFFERENCE


def _sum(comparisons: Sequence[Comparison]) -> Comparison:
    return sum(comparisons[1:], start=comparisons[0])
