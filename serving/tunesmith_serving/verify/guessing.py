"""What guessed tokens bring in the vLLM that will serve: are they taken, and is it faster.

The same model is loaded once more without guesses. It is asked whether it would have chosen the
tokens that came with them, and timed on the same prompts, as a scheme is (`speed.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pydantic import JsonValue

from tunesmith_api.finetunejob.serving import Speculative
from tunesmith_serving.verify.guess_counts import GuessedTokens, Guesses
from tunesmith_serving.verify.parity import Comparison, TokenView, clipped
from tunesmith_serving.verify.speed import NUM_PROMPTS, Rates, is_faster, spread


@dataclass(frozen=True, slots=True)
class SameTokens:
    """How the model without guesses saw the tokens that came with them.

    `margin` is how far, in nats, it put a token of its own above one of them; 0 if it never did.
    """

    compared: Comparison
    margin: float

    @classmethod
    def of(cls, answers: Sequence[Sequence[TokenView]], *, tie: float) -> "SameTokens":
        """`answers` have a view of each token up to and with the first that was another."""
        views = [view for answer in answers for view in answer]
        agreed = sum(view.margin <= tie for view in views)
        return cls(
            Comparison(num_tokens=len(views), num_agreed=agreed, sum_difference=0.0),
            margin=max(clipped(view.margin) for view in views),
        )

    def holds(self, *, min_agreement: float, max_margin: float) -> bool:
        """Whether what differs is no more than rounding may do: a pass of several adds otherwise.

        The bounds are those of the parity with transformers.
        """
        return self.compared.highest_agreement >= min_agreement and self.margin <= max_margin

    @property
    def refusal(self) -> str:
        """What was found, and what to do."""
        return (
            "with guessed tokens vLLM does not answer as without: "
            f"{self.compared.num_agreed} of {self.compared.num_tokens} tokens are the same, and "
            f"one lies {self.margin:.2f} nats below the model's own. Leave serving.speculative out."
        )


@dataclass(frozen=True, slots=True)
class Guessing:
    """One model, with guesses and without."""

    speculative: Speculative
    guesses: Guesses
    same: SameTokens
    guessing: Rates
    plain: Rates

    @property
    def pays(self) -> bool:
        """Whether it was seen to be faster with them, alone or together."""
        return is_faster(self.guessing, self.plain)

    @property
    def told(self) -> str:
        """In figures, for people."""
        return (
            f"{self.guesses.acceptance:.0%} of guessed tokens taken{self._needed}, "
            f"{median(self.guessing.alone):.0f} tokens/s of one request, "
            f"{median(self.plain.alone):.0f} without"
        )

    @property
    def warnings(self) -> list[str]:
        """That it does not pay; without figures, for a version keeps what every run finds."""
        if self.pays:
            return []
        advice = (
            "distil the draft for longer or make it smaller"
            if self.speculative.has_draft
            else "guess fewer tokens"
        )
        warning = (
            f"guessing by {self.speculative.method} was not faster in this vLLM: leave "
            f"serving.speculative out, or {advice}. verify's message and the report say which part "
            "of the guesses was taken, and which would have to be."
        )
        return [warning]

    @property
    def _needed(self) -> str:
        """The part of guesses that has to be taken before one request is answered faster."""
        cost = _cost(self.guessing.alone, self.plain.alone, self.guessing.guessed_alone)
        if cost is None:
            return ""
        return f" ({cost:.0%} would pay)" if cost < 1 else " (not even all would pay)"

    def as_json(self) -> dict[str, JsonValue]:
        """As facts have it."""
        return {
            "method": self.speculative.method,
            "tokens": self.speculative.tokens,
            "guessed": self.guesses.guessed,
            "taken": self.guesses.taken,
            "acceptance": round(self.guesses.acceptance, 4),
            "tokensPerPass": round(self.guesses.tokens_per_pass, 3),
            "sameTokens": self.same.compared.num_agreed,
            "comparedTokens": self.same.compared.num_tokens,
            "requests": NUM_PROMPTS,
            "pays": self.pays,
            "alone": _both(self.guessing.alone, self.plain.alone, self.guessing.guessed_alone),
            "together": _both(
                self.guessing.together, self.plain.together, self.guessing.guessed_together
            ),
        }


def _both(
    guessing: Sequence[float], plain: Sequence[float], guessed: GuessedTokens | None
) -> JsonValue:
    cost = _cost(guessing, plain, guessed)
    return {
        "guessing": spread(guessing),
        "plain": spread(plain),
        "ratio": round(median(guessing) / median(plain), 3),
        "costOfGuess": None if cost is None else round(cost, 3),
    }


def _cost(
    guessing: Sequence[float], plain: Sequence[float], guessed: GuessedTokens | None
) -> float | None:
    """In passes of the model by itself, which is the part of guesses that has to be taken."""
    return guessed.cost_of_guess(ratio=median(guessing) / median(plain)) if guessed else None
