"""Decoding goes on behind the reference's token, with a decoder that departs as it is told."""

from collections.abc import Sequence

import pytest

from tunesmith_serving.verify.parity import TokenView
from tunesmith_serving.verify.reference_generations import (
    MAX_CONTINUATIONS,
    MAX_CONTINUED_TOKENS,
    Continuation,
    ReferenceGeneration,
    continued_views,
)

EQUAL = TokenView(logprob=-0.1, margin=0.0)
OTHER = TokenView(logprob=-0.9, margin=0.5)


def prompt(num_tokens: int) -> ReferenceGeneration:
    """A prompt of one token, and an answer whose tokens are numbered from 1 on."""
    return ReferenceGeneration(
        prompt_ids=[0],
        answer_ids=list(range(1, num_tokens + 1)),
        logprobs=[-0.1] * num_tokens,
        kind="probe",
    )


class Decoder:
    """Departs from the answer at the tokens that it is given."""

    def __init__(self, departs_at: Sequence[int]) -> None:
        self.departs_at = set(departs_at)
        self.asked: list[list[Continuation]] = []

    def __call__(self, rests: Sequence[Continuation]) -> list[list[TokenView]]:
        self.asked.append(list(rests))
        return [self.views(each.expected) for each in rests]

    def views(self, expected: Sequence[int]) -> list[TokenView]:
        found = []
        for token in expected:
            found.append(OTHER if token in self.departs_at else EQUAL)
            if found[-1] is OTHER:
                break
        return found


def test_every_token_is_judged_given_the_reference_s_own_before_it() -> None:
    decoder = Decoder([3, 7])
    answer = prompt(10)
    decoded = decoder.views(answer.answer_ids)

    (continued,) = continued_views([answer], [decoded], decode=decoder)

    views = [*decoded, *continued]
    assert [place for place, view in enumerate(views, 1) if view is OTHER] == [3, 7]
    assert len(views) == 10
    assert [each.given for (each,) in decoder.asked] == [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7]]


def test_an_answer_without_a_departure_is_not_asked_again() -> None:
    decoder = Decoder([2])
    prompts = [prompt(4), prompt(4)]

    continued = continued_views(prompts, [[EQUAL] * 4, [EQUAL, OTHER]], decode=decoder)

    assert [len(views) for views in continued] == [0, 2]
    assert [len(rests) for rests in decoder.asked] == [1]


@pytest.mark.parametrize(
    ("departs", "num_judged"), [(True, MAX_CONTINUATIONS), (False, MAX_CONTINUATIONS * 32)]
)
def test_a_long_answer_is_followed_only_so_far(num_judged: int, *, departs: bool) -> None:
    answer = prompt(1000)
    decoder = Decoder(answer.answer_ids if departs else [])

    (continued,) = continued_views([answer], [[OTHER]], decode=decoder)

    assert len(continued) == num_judged
    assert {len(rest.expected) for (rest,) in decoder.asked} == {MAX_CONTINUED_TOKENS}
