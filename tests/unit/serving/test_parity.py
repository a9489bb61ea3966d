"""The judgement of verify: tables of what vLLM said, and what that must lead to."""

import math
from collections.abc import Sequence

import pytest

from tunesmith_serving.verify.parity import Answer, TokenView, Verdict, judge

SURE = TokenView(logprob=-0.1, margin=0.0)


def answer(forced: Sequence[TokenView], decoded: Sequence[TokenView] | None = None) -> Answer:
    return Answer(
        reference_logprobs=[-0.1] * len(forced),
        forced=forced,
        decoded=forced if decoded is None else decoded,
    )


def judged(*answers: Answer, tie: float = 0.01) -> Verdict:
    return judge(answers, tie=tie, min_agreement=0.9, max_difference=0.25)


def test_equal_answers_hold() -> None:
    verdict = judged(answer([SURE] * 10))

    assert verdict.holds
    assert verdict.total.agreement == 1.0
    assert verdict.total.mean_difference == 0.0


@pytest.mark.parametrize(
    ("num_different", "holds"), [(0, True), (1, True), (2, False), (10, False)]
)
def test_one_different_token_of_ten_is_the_last_that_is_borne(
    num_different: int, *, holds: bool
) -> None:
    different = TokenView(logprob=-0.1, margin=2.0)
    views = [different] * num_different + [SURE] * (10 - num_different)

    verdict = judged(answer(views, [SURE] * 10))

    assert verdict.holds is holds
    assert verdict.total.agreement == pytest.approx(1 - num_different / 10)


@pytest.mark.parametrize(("logprob", "holds"), [(-0.35, True), (-0.36, False), (0.15, True)])
def test_the_mean_difference_of_logprobs_keeps_its_bound(logprob: float, *, holds: bool) -> None:
    verdict = judged(answer([TokenView(logprob=logprob, margin=0.0)] * 4))

    assert verdict.holds is holds


@pytest.mark.parametrize(("margin", "agreed"), [(0.0, True), (0.125, True), (0.126, False)])
def test_tokens_that_tie_count_as_agreed(margin: float, *, agreed: bool) -> None:
    verdict = judged(answer([TokenView(logprob=-0.1, margin=margin)]), tie=0.125)

    assert (verdict.total.agreement == 1.0) is agreed


def test_a_faulty_decode_kernel_is_refused_though_the_prefill_kernel_is_sound() -> None:
    wrong_at_once = [TokenView(logprob=-6.0, margin=5.0)]

    verdict = judged(*[answer([SURE] * 16, wrong_at_once)] * 20)

    assert verdict.total.forced.agreement == 1.0
    assert verdict.total.decoded.agreement == 0.0
    assert not verdict.holds


def test_a_faulty_prefill_kernel_is_refused_though_decoding_agrees() -> None:
    wrong = TokenView(logprob=-6.0, margin=5.0)

    assert not judged(answer([wrong] * 16, [SURE] * 16)).holds


def test_what_follows_the_first_different_token_is_not_judged() -> None:
    """One late difference in each of ten answers is one in ten tokens, not a failure."""
    different = TokenView(logprob=-0.2, margin=0.3)

    verdict = judged(*[answer([SURE] * 32, [*[SURE] * 19, different])] * 10)

    assert verdict.total.decoded.num_tokens == 200
    assert verdict.total.decoded.agreement == pytest.approx(0.95)
    assert verdict.holds


@pytest.mark.parametrize("logprob", [-math.inf, math.nan])
def test_a_logprob_that_is_no_number_counts_as_a_large_difference(logprob: float) -> None:
    verdict = judged(answer([TokenView(logprob=logprob, margin=math.nan)]))

    assert verdict.total.mean_difference == 100.0
    assert verdict.total.agreement == 0.0
    assert not verdict.holds


def test_answers_of_different_length_weigh_by_their_tokens() -> None:
    wrong = TokenView(logprob=-1.1, margin=1.0)

    verdict = judged(answer([SURE] * 98), answer([wrong] * 2))

    assert verdict.total.agreement == pytest.approx(0.98)
    assert verdict.total.mean_difference == pytest.approx(0.02)
    assert [each.agreement for each in verdict.prompts] == [1.0, 0.0]


def test_one_prompt_that_is_answered_by_another_model_is_refused_whatever_the_means_say() -> None:
    wrong = TokenView(logprob=-1.2, margin=1.1)

    verdict = judged(*[answer([SURE] * 16)] * 33, answer([wrong] * 16))

    assert verdict.total.mean_difference < 0.25
    assert verdict.total.agreement > 0.9
    assert verdict.broken == [33]
    assert not verdict.holds


@pytest.mark.parametrize(("margin", "broken"), [(0.67, []), (2.0, []), (2.1, [1]), (math.inf, [1])])
def test_a_token_of_its_own_far_above_the_references_breaks_a_prompt(
    margin: float, broken: list[int]
) -> None:
    own = TokenView(logprob=-0.1, margin=margin)

    assert judged(answer([SURE] * 90), answer([SURE] * 16, [SURE, own])).broken == broken


def test_a_short_answer_that_scatters_as_rounded_activations_do_is_sound() -> None:
    """Five tokens of a sound W8A8 model, 0.388 nats apart; docs/log.md."""
    scattered = TokenView(logprob=-0.488, margin=0.2)

    assert judged(answer([SURE] * 90), answer([scattered] * 5), tie=0.25).broken == []


def test_nothing_to_judge_is_no_agreement() -> None:
    with pytest.raises(ValueError, match="no answers"):
        judged()
