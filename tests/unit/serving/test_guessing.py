"""When guessing pays, what is told of it, and which answers it may not change."""

from typing import Any

import pytest

from timed_rounds import FAST, ROUNDS, SLOW
from tunesmith_api.finetunejob.serving import Speculative
from tunesmith_engine.conditions import truncate_message
from tunesmith_serving.verify.guess_counts import GuessedTokens, Guesses
from tunesmith_serving.verify.guessing import Guessing, SameTokens
from tunesmith_serving.verify.parity import TokenView
from tunesmith_serving.verify.speed import Rates

OWN = TokenView(logprob=-0.1, margin=0.0)


def guessing_of(
    alone: list[float],
    together: list[float],
    *,
    guessed_alone: GuessedTokens | None = None,
    **asked: Any,
) -> Guessing:
    return Guessing(
        Speculative.model_validate({"method": "draftModel", **asked}),
        Guesses(passes=40, guessed=120, taken=60),
        SameTokens.of([[OWN] * 8], tie=0.01),
        guessing=Rates(alone, together, guessed_alone),
        plain=Rates(alone=SLOW, together=SLOW),
    )


@pytest.mark.parametrize(("alone", "together", "does_pay"), ROUNDS)
def test_guesses_pay_where_every_round_was_faster(
    alone: list[float], together: list[float], *, does_pay: bool
) -> None:
    guessing = guessing_of(alone, together)

    assert guessing.pays is does_pay
    assert bool(guessing.warnings) is not does_pay


def test_the_facts_have_counts_and_ratios_and_the_warning_no_figures() -> None:
    told: Any = guessing_of(FAST, SLOW).as_json()

    assert (told["guessed"], told["taken"], told["acceptance"]) == (120, 60, 0.5)
    # Its own token, and one and a half guesses.
    assert told["tokensPerPass"] == 2.5
    assert told["alone"] == {
        "guessing": FAST, "plain": SLOW, "ratio": pytest.approx(1.364), "costOfGuess": None,
    }  # fmt: skip
    assert (told["sameTokens"], told["comparedTokens"]) == (8, 8)
    (warning,) = guessing_of(SLOW, SLOW).warnings
    assert "leave serving.speculative out, or distil the draft for longer" in warning
    # What a status keeps of a message.
    assert truncate_message(warning) == warning
    assert not any(character.isdigit() for character in warning)
    (of_words,) = guessing_of(SLOW, SLOW, method="ngram").warnings
    assert "draft" not in of_words


@pytest.mark.parametrize(
    ("guesses", "ratio", "cost"),
    [
        # Of the 135M model (docs/log.md): one guess at a time, 12.5 % taken, 0.79 times as fast;
        # three at a time, 5.8 % taken, half as fast. A guess costs about as much in both.
        (Guesses(passes=889, guessed=889, taken=111), 0.786, 0.43),
        (Guesses(passes=850, guessed=2550, taken=150), 0.49, 0.467),
        # All four of each pass, and four times as fast: guesses that cost nothing.
        (Guesses(passes=250, guessed=750, taken=750), 4.0, 0.0),
        # Noise: faster than it can be.
        (Guesses(passes=250, guessed=750, taken=750), 4.4, 0.0),
        # Half of the passes found no words to look up.
        (Guesses(passes=400, guessed=400, taken=200), 1.0, 0.5),
    ],
)
def test_a_guess_costs_what_the_speed_lacks_to_the_tokens_of_a_pass(
    guesses: Guesses, ratio: float, cost: float
) -> None:
    seen = GuessedTokens(num_answers=0, num_tokens=1000, guesses=guesses)

    found = seen.cost_of_guess(ratio=ratio)

    assert found == pytest.approx(cost, abs=2e-3)


def test_guesses_that_are_taken_beyond_the_end_of_an_answer_are_no_passes_less() -> None:
    # Of 32 tokens the first checks none, and two passes of 17 are more than the rest.
    seen = GuessedTokens(num_answers=1, num_tokens=32, guesses=Guesses(2, 32, 32))

    assert seen.passes == 3
    nothing = GuessedTokens(num_answers=1, num_tokens=32, guesses=Guesses(0, 0, 0))
    assert nothing.cost_of_guess(ratio=0.9) is None


@pytest.mark.parametrize(
    ("alone", "cost", "words"),
    [
        # 1.5 tokens a pass at the speed of one: a guess costs half a pass.
        (SLOW, 0.5, "50% of guessed tokens taken (50% would pay), 11 tokens/s"),
        ([5.5], 2.0, "50% of guessed tokens taken (not even all would pay), 6 tokens/s"),
    ],
)
def test_what_would_have_to_be_taken_is_told_beside_what_was(
    alone: list[float], cost: float, words: str
) -> None:
    seen = GuessedTokens(0, 150, Guesses(passes=100, guessed=100, taken=50))
    guessing = guessing_of(alone, SLOW, guessed_alone=seen)

    assert guessing.told.startswith(words)
    facts: Any = guessing.as_json()
    assert facts["alone"]["costOfGuess"] == cost
    assert guessing_of(SLOW, SLOW).told.startswith("50% of guessed tokens taken, 11")


def test_an_engine_that_guessed_nothing_took_nothing() -> None:
    nothing = Guesses(passes=0, guessed=0, taken=0)

    assert (nothing.acceptance, nothing.tokens_per_pass) == (0.0, 1.0)
    assert Guesses(5, 15, 7) - Guesses(2, 6, 3) == Guesses(3, 9, 4)


@pytest.mark.parametrize(
    ("margin", "num_equal", "does_hold"),
    [
        # Between two that are equal by rounding, either will do.
        (0.005, 10, True),
        # A pass of several tokens adds otherwise, and may turn a close choice.
        (0.5, 19, True),
        (3.0, 19, False),
        (float("inf"), 19, False),
        (0.5, 1, False),
    ],
)
def test_an_answer_may_differ_by_rounding_alone(
    margin: float, num_equal: int, *, does_hold: bool
) -> None:
    departing = [*[OWN] * num_equal, TokenView(logprob=-3.0, margin=margin)]

    same = SameTokens.of([departing], tie=0.01)

    assert same.holds(min_agreement=0.9, max_margin=2.0) is does_hold
    assert "Leave serving.speculative out" in same.refusal
