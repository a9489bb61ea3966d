"""When guessing pays, what is told of it, and which answers it may not change."""

from typing import Any

import pytest

from tunesmith_api.finetunejob.serving import Speculative
from tunesmith_serving.verify.guess_counts import Guesses
from tunesmith_serving.verify.guessing import Guessing, SameTokens
from tunesmith_serving.verify.parity import TokenView
from tunesmith_serving.verify.speed import Rates

SLOW, FAST = [10.0, 11.0, 12.0], [14.0, 15.0, 16.0]
OWN = TokenView(logprob=-0.1, margin=0.0)


def guessing_of(alone: list[float], together: list[float], **asked: Any) -> Guessing:
    return Guessing(
        Speculative.model_validate({"method": "draftModel", **asked}),
        Guesses(passes=40, guessed=120, taken=60),
        SameTokens.of([[OWN] * 8], tie=0.01),
        guessing=Rates(alone=alone, together=together),
        plain=Rates(alone=SLOW, together=SLOW),
    )


@pytest.mark.parametrize(
    ("alone", "together", "does_pay"),
    [
        (FAST, SLOW, True),
        (SLOW, FAST, True),
        (SLOW, SLOW, False),
        # One slow round: what else the machine did may explain the rest.
        ([11.5, *FAST], SLOW, False),
    ],
)
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
    assert told["alone"] == {"guessing": FAST, "plain": SLOW, "ratio": pytest.approx(1.364)}
    assert (told["sameTokens"], told["comparedTokens"]) == (8, 8)
    (warning,) = guessing_of(SLOW, SLOW).warnings
    assert "distil the draft for longer" in warning
    assert not any(character.isdigit() for character in warning)
    (of_words,) = guessing_of(SLOW, SLOW, method="ngram").warnings
    assert "draft" not in of_words


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
