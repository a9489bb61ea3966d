"""What the verify stage refuses and says, without asking vLLM."""

import json
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_serving.verify.parity import AnswerViews, Comparison, TokenView, judge
from tunesmith_serving.verify.reference_generations import ReferenceGeneration, read_reference
from tunesmith_serving.verify.stage import parity_warnings, prompts_that_fit, refusal
from tunesmith_serving.verify.vllm_engine import (
    out_of_sight,
    token_view,
    views_until_departure,
)


class Logprob:
    """As vLLM hands out candidates."""

    def __init__(self, logprob: float) -> None:
        self.logprob = logprob


def prompt(num_prompt_tokens: int, num_answer_tokens: int) -> ReferenceGeneration:
    return ReferenceGeneration(
        prompt_ids=[1] * num_prompt_tokens,
        answer_ids=[2] * num_answer_tokens,
        logprobs=[-0.1] * num_answer_tokens,
        kind="probe",
    )


def test_prompts_that_are_too_long_to_be_served_are_left_out() -> None:
    short, long = prompt(10, 5), prompt(10, 6)

    assert prompts_that_fit([short, long], max_model_length=16) == [short]


def test_a_length_that_no_prompt_fits_is_bad_input() -> None:
    with pytest.raises(BadInputError) as refused:
        prompts_that_fit([prompt(20, 5)], max_model_length=16)

    assert refused.value.reason is Reason.INVALID_SPEC
    assert "serving.maxModelLength is 16" in refused.value.message
    assert "25 tokens" in refused.value.message


def test_a_refusal_names_numbers_bounds_and_the_remedy() -> None:
    views = [TokenView(logprob=-1.1, margin=1.0)] * 4
    answer = AnswerViews(reference_logprobs=[-0.1] * 4, forced=views, decoded=views[:1])
    verdict = judge([answer], tie=0.01, min_agreement=0.9, max_difference=0.25)

    compiled = refusal(verdict, faults=[], enforce_eager=False)

    assert "agreement 0.000 (at least 0.9) from 0 of 4 tokens (0.000 to 0.527 at 95%)" in compiled
    assert "1.000 nats apart (at most 0.25)" in compiled
    assert "serving.enforceEager: true" in compiled
    assert "parity-answers.json" in refusal(verdict, faults=[], enforce_eager=True)
    assert "int8" in refusal(verdict, faults=["int8 products overflow"], enforce_eager=True)


@pytest.mark.parametrize(("num_tokens", "num_warnings"), [(63, 1), (64, 0)])
def test_a_verdict_over_few_tokens_says_so_and_how_to_get_more(
    num_tokens: int, num_warnings: int
) -> None:
    judged = Comparison(num_tokens=num_tokens, num_agreed=num_tokens, sum_difference=0.0)

    found = parity_warnings(20, 20, judged=judged)

    assert len(found) == num_warnings
    assert not found or "raise verification.prompts" in found[0]


def test_a_token_among_the_candidates_is_seen_with_its_distance_to_the_favourite() -> None:
    assert token_view({7: Logprob(-0.5), 8: Logprob(-1.25)}, 8) == TokenView(
        logprob=-1.25, margin=0.75
    )


def test_a_token_beyond_the_candidates_can_be_no_tie() -> None:
    view = token_view({7: Logprob(-0.5), 8: Logprob(-1.25)}, 9)

    assert view.logprob == -1.25
    assert view.margin == float("inf")


def test_decoded_tokens_are_seen_up_to_and_with_the_first_different_one() -> None:
    candidates = [{1: Logprob(-0.1), 2: Logprob(-3.0)}] * 3

    views = views_until_departure(candidates, chosen=[1, 2, 1], expected=[1, 1, 1])

    assert len(views) == 2


def test_a_reference_without_a_logprob_for_every_token_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    broken = {"promptIds": [1], "answerIds": [2, 3], "logprobs": [-0.1], "kind": "probe"}
    path.write_text(json.dumps({"dtype": "float32", "prompts": [broken]}))

    with pytest.raises(ValidationError, match="2 answer tokens with 1 log-prob"):
        read_reference(path)


def test_a_module_that_vllm_trips_over_is_gone_for_a_while_and_comes_back() -> None:
    with out_of_sight("json.decoder"):
        assert "json.decoder" not in sys.modules
    with out_of_sight("no_such_module"):
        pass

    assert sys.modules["json.decoder"] is json.decoder
    assert "no_such_module" not in sys.modules
