"""Whether the scheme is faster than no quantization, in the vLLM that will serve.

The unquantized model has the shape and the number format of the one that ships, and other weights
perhaps: no kernel is faster for that. Rounds of one engine follow one another, for two need not
fit into memory at once, so that what else the machine does meanwhile moves them; only where the
slowest round of one is faster than the fastest of the other anything is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from pydantic import JsonValue

from tunesmith_serving.verify.guess_counts import GuessedTokens
from tunesmith_serving.verify.vllm_engine import VllmEngine

NUM_PROMPTS: Final = 8
NUM_TOKENS: Final = 32
NUM_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second in each round: of one request alone, and of `NUM_PROMPTS` at once.

    Of an engine that guesses also what was guessed in these rounds.
    """

    alone: list[float]
    together: list[float]
    guessed_alone: GuessedTokens | None = None
    guessed_together: GuessedTokens | None = None

    @classmethod
    def of(
        cls, engine: VllmEngine, prompts: Sequence[Sequence[int]], *, max_length: int
    ) -> "Rates":
        """Measured; of fewer prompts some come more than once, and long ones are cut."""
        num_tokens = min(NUM_TOKENS, max_length // 2)
        rows = [
            prompts[place % len(prompts)][: max_length - num_tokens] for place in range(NUM_PROMPTS)
        ]
        # The first of each pays for what is allocated once, and leaves the prompts in the cache.
        _rate(engine, rows, num_tokens=num_tokens)
        alone, guessed_alone = _rounds(engine, rows[:1], num_tokens=num_tokens)
        together, guessed_together = _rounds(engine, rows, num_tokens=num_tokens)
        return cls(alone, together, guessed_alone, guessed_together)


@dataclass(frozen=True, slots=True)
class Speed:
    """Both models in one vLLM."""

    scheme: str
    compressed: Rates
    unquantized: Rates

    @property
    def pays(self) -> bool:
        """Whether it was seen to be faster in one of both ways."""
        return is_faster(self.compressed, self.unquantized)

    @property
    def told(self) -> str:
        """In figures, for people."""
        return (
            f"{self.scheme} makes {median(self.compressed.together):.0f} tokens/s, unquantized "
            f"{median(self.unquantized.together):.0f}"
        )

    @property
    def warnings(self) -> list[str]:
        """That it does not pay; without figures, for a version keeps what every run finds."""
        if self.pays:
            return []
        warning = (
            f"{self.scheme} was not faster than the unquantized model in this vLLM: it saves "
            "memory alone. Choose compression.quantize.scheme: none where there is enough."
        )
        return [warning]

    def as_json(self) -> dict[str, JsonValue]:
        """As facts have it."""
        return {
            "scheme": self.scheme,
            "requests": NUM_PROMPTS,
            "pays": self.pays,
            "alone": _both(self.compressed.alone, self.unquantized.alone),
            "together": _both(self.compressed.together, self.unquantized.together),
        }


def is_faster(ours: Rates, theirs: Rates) -> bool:
    """Whether every round was faster than the fastest of the other, alone or together."""
    return min(ours.alone) > max(theirs.alone) or min(ours.together) > max(theirs.together)


def _rounds(
    engine: VllmEngine, rows: Sequence[Sequence[int]], *, num_tokens: int
) -> tuple[list[float], GuessedTokens | None]:
    before = engine.guesses()
    rates = [_rate(engine, rows, num_tokens=num_tokens) for _ in range(NUM_ROUNDS)]
    after = engine.guesses()
    if before is None or after is None:
        return rates, None
    num_answers = NUM_ROUNDS * len(rows)
    return rates, GuessedTokens(num_answers, num_answers * num_tokens, after - before)


def _rate(engine: VllmEngine, rows: Sequence[Sequence[int]], *, num_tokens: int) -> float:
    return len(rows) * num_tokens / engine.seconds(rows, num_tokens=num_tokens)


def _both(compressed: Sequence[float], unquantized: Sequence[float]) -> JsonValue:
    return {
        "compressed": spread(compressed),
        "unquantized": spread(unquantized),
        "ratio": round(median(compressed) / median(unquantized), 3),
    }


def spread(rates: Sequence[float]) -> JsonValue:
    """The slowest, the median and the fastest round."""
    return [round(rate, 2) for rate in (min(rates), median(rates), max(rates))]
