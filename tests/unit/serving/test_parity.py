"""The judgement of verify: tables of what vLLM said, and what that must lead to."""

import math
from collections.abc import Sequence

import pytest

from tunesmith_serving.verify.parity import AnswerViews, ParityVerdict, TokenView, judge

SURE = TokenView(logprob=-0.1, margin=0.0)


def answer(forced: Sequence[TokenView], decoded: Sequence[TokenView] | None = None) -> AnswerViews:
    return AnswerViews(
        reference_logprobs=[-0.1] * len(forced),
        forced=forced,
        decoded=forced if decoded is None else decoded,
    )


def judged(*answers: AnswerViews, tie: float = 0.01) -> ParityVerdict:
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


def agreeing(num_agreed: int, num_tokens: int) -> AnswerViews:
    """An answer whose first tokens are chosen otherwise, by a little more than a tie."""
    different = TokenView(logprob=-0.3, margin=0.3)
    return answer(
        [different] * (num_tokens - num_agreed) + [SURE] * num_agreed, [SURE] * num_tokens
    )


@pytest.mark.parametrize(
    ("num_agreed", "num_tokens", "holds"),
    [
        # Two sound W8A8 models, rounded by hand, on two processors; docs/log.md.
        (85, 94, True),
        (84, 94, True),
        (79, 94, False),
        (390, 446, False),
        (391, 446, True),
        # Too few to allow for chance: the bound as it stands.
        (57, 63, True),
        (56, 63, False),
        (23, 27, False),
    ],
)
def test_agreement_is_refused_where_chance_does_not_explain_that_it_is_below_its_bound(
    num_agreed: int, num_tokens: int, *, holds: bool
) -> None:
    verdict = judged(agreeing(num_agreed, num_tokens))

    assert verdict.worse.num_agreed == num_agreed
    assert verdict.holds is holds


@pytest.mark.parametrize("num_tokens", [64, 10_000])
def test_a_bound_of_one_bears_no_difference_however_many_tokens_there_are(num_tokens: int) -> None:
    def holds(num_agreed: int) -> bool:
        one = [agreeing(num_agreed, num_tokens)]
        return judge(one, tie=0.01, min_agreement=1.0, max_difference=0.25).holds

    assert holds(num_tokens)
    assert not holds(num_tokens - 1)


def test_the_way_that_leaves_less_agreement_credible_decides() -> None:
    """Few tokens with the lower share may leave more credible than many with a higher one."""
    different = TokenView(logprob=-0.2, margin=0.3)
    forced = [different] * 120 + [SURE] * 880
    decoded = [different] * 10 + [SURE] * 60

    verdict = judged(answer(forced, decoded))

    assert verdict.total.decoded.agreement < verdict.total.forced.agreement == 0.88
    assert verdict.worse == verdict.total.forced
    assert not verdict.holds


def test_tokens_that_were_decoded_anew_count_and_the_first_departure_bounds_the_prompt() -> None:
    far = TokenView(logprob=-0.2, margin=3.0)
    made = AnswerViews(
        reference_logprobs=[-0.1] * 4,
        forced=[SURE] * 4,
        decoded=[SURE, TokenView(logprob=-0.2, margin=0.3)],
        continued=[SURE, far],
    )

    verdict = judged(*[made] * 20)

    assert (verdict.total.decoded.num_agreed, verdict.total.decoded.num_tokens) == (40, 80)
    assert verdict.broken == []
    assert not verdict.holds


def test_nothing_to_judge_is_no_agreement() -> None:
    with pytest.raises(ValueError, match="no answers"):
        judged()
