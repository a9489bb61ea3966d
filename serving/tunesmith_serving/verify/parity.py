"""Judges vLLM's answers against the reference's: records in, verdict out, nothing else.

Two ways of computing are judged, because they run through different kernels:

- *forced*: prompt and reference answer go in together, so every token is judged given the same
  tokens before it, and one different choice does not spoil those that follow.
- *decoded*: vLLM answers by itself, one token at a time, up to and with its first different token;
  what follows has no reference. It then goes on behind the reference's own token (*continued*), so
  that every token is judged in this way, too.

The worse of the two decides. Agreement is counted over so many tokens, and a model at the bound may
fall below it by chance: it is refused if even the highest share that the count leaves credible
(`clopper_pearson`) lies below the bound. Fewer tokens than `ENOUGH_TOKENS` leave too much credible
for that, and are held to the bound as they stand. Means over all prompts hide one that is answered
wrongly, so each prompt is held against wider bounds of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

# Of each end of an interval by itself.
CONFIDENCE: Final = 0.95
# Of an interval in which a bound is searched: 50 leave less of it than a float can tell.
_HALVINGS: Final = 50
# Chosen after a false refusal at 23 of 27 tokens; what it catches still is in docs/log.md.
ENOUGH_TOKENS: Final = 64
# A log-probability of minus infinity, or none at all, counts as this many nats of difference.
LARGEST_DIFFERENCE: Final = 100.0
# How many times the bound on the mean difference of all prompts one prompt may differ, and how far
# vLLM may prefer a token of its own. Sound models with rounded activations were seen at 2.2 and 2.7
# times, other weights at 8.8: docs/log.md.
PROMPT_ALLOWANCE: Final = 4.0
MARGIN_ALLOWANCE: Final = 8.0


@dataclass(frozen=True, slots=True)
class TokenView:
    """How vLLM saw a token of the reference's answer.

    `logprob` is its log-probability in nats, `margin` how far vLLM's favourite lies above it.
    """

    logprob: float
    margin: float


@dataclass(frozen=True, slots=True)
class AnswerViews:
    """The reference's answer to one prompt, as vLLM saw its tokens.

    `forced` has a view of every token of the reference's answer, `decoded` one of each token up to
    and with the first that vLLM chose differently, `continued` of those that follow.
    """

    reference_logprobs: Sequence[float]
    forced: Sequence[TokenView]
    decoded: Sequence[TokenView]
    continued: Sequence[TokenView] = ()


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
        return clopper_pearson(self.num_agreed, self.num_tokens)

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


_NOTHING: Final = Comparison(num_tokens=0, num_agreed=0, sum_difference=0.0)


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
class ParityVerdict:
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
            for place, prompt in enumerate(self.prompts)
            if prompt.forced.mean_difference > PROMPT_ALLOWANCE * self.max_difference
            or prompt.margin > MARGIN_ALLOWANCE * self.max_difference
        ]


def judge(
    answers: Sequence[AnswerViews], *, tie: float, min_agreement: float, max_difference: float
) -> ParityVerdict:
    """Compare every prompt and hold the sums against the bounds.

    A token counts as agreed if vLLM's favourite lies at most `tie` nats above it: between equal
    numbers neither engine's choice is wrong.

    Raises:
        ValueError: there is nothing to judge.
    """
    if not answers:
        raise ValueError("no answers to judge")
    prompts = [
        PromptParity(
            forced=_compare(answer.reference_logprobs, answer.forced, tie=tie),
            decoded=_compare(
                answer.reference_logprobs, [*answer.decoded, *answer.continued], tie=tie
            ),
            # NB: of the first departure alone. Those of `continued` count as disagreement, but a
            # prompt's own bound was chosen from first departures.
            margin=clipped(answer.decoded[-1].margin),
        )
        for answer in answers
    ]
    return ParityVerdict(
        prompts=prompts,
        # Summed over tokens, not averaged over prompts: a short answer weighs less than a long one.
        total=PromptParity(
            forced=sum((prompt.forced for prompt in prompts), start=_NOTHING),
            decoded=sum((prompt.decoded for prompt in prompts), start=_NOTHING),
            margin=max(prompt.margin for prompt in prompts),
        ),
        min_agreement=min_agreement,
        max_difference=max_difference,
    )


@cache
def clopper_pearson(num_hits: int, num_tries: int) -> tuple[float, float]:
    """The lowest and the highest true share that a counted one leaves credible.

    Exact bounds for a binomial share (Clopper & Pearson 1934, Biometrika 26, 404-413): the highest
    share is the one under which so few or fewer would be counted with a probability of
    1 - CONFIDENCE. It is never too narrow, for few tokens and for shares near 1 either, where
    bounds from the normal distribution are (Brown, Cai & DasGupta 2001, Statistical Science 16,
    101-133). It takes tokens for independent, which those of one answer are not quite.
    """
    return 1 - _highest_share(num_tries - num_hits, num_tries), _highest_share(num_hits, num_tries)


def _compare(reference: Sequence[float], views: Sequence[TokenView], *, tie: float) -> Comparison:
    # Views may be fewer: a broken model's answer is not followed to its end.
    pairs = zip(reference, views, strict=False)
    return Comparison(
        num_tokens=len(views),
        num_agreed=sum(view.margin <= tie for view in views),
        sum_difference=sum(clipped(abs(view.logprob - logprob)) for logprob, view in pairs),
    )


def clipped(nats: float) -> float:
    """A difference of log-probabilities that can be summed and compared, whatever it is."""
    # NB: NaN too, which every comparison would let pass: NaN > bound is false.
    return min(nats, LARGEST_DIFFERENCE) if math.isfinite(nats) else LARGEST_DIFFERENCE


def _highest_share(num_hits: int, num_tries: int) -> float:
    if num_hits == num_tries:
        return 1.0
    low, high = num_hits / num_tries, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # From the shorter of the two tails, which has the smaller rounding error.
        if num_hits < num_tries / 2:
            at_most = _binomial_tail(num_hits, num_tries, share=middle)
        else:
            at_most = 1 - _binomial_tail(num_tries - num_hits - 1, num_tries, share=1 - middle)
        low, high = (middle, high) if at_most > 1 - CONFIDENCE else (low, middle)
    return high


def _binomial_tail(num_hits: int, num_tries: int, *, share: float) -> float:
    """The probability of `num_hits` or fewer."""
    # In logarithms: the coefficients of 1,400 tokens have 420 digits.
    hit, miss = math.log(share), math.log1p(-share)
    coefficients = (
        math.lgamma(num_tries + 1) - math.lgamma(hits + 1) - math.lgamma(num_tries - hits + 1)
        for hits in range(num_hits + 1)
    )
    return math.fsum(
        math.exp(coefficient + hits * hit + (num_tries - hits) * miss)
        for hits, coefficient in enumerate(coefficients)
    )
