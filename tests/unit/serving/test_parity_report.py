"""What verify leaves behind: facts by paths of the spec, and fingerprints of both kinds."""

from dataclasses import replace
from typing import Any

import pytest

from tunesmith_serving.settings import ServingSettings
from tunesmith_serving.verify import parity_report
from tunesmith_serving.verify.bias_pairs import BiasPair
from tunesmith_serving.verify.numerics import Kernels
from tunesmith_serving.verify.parity import AnswerViews, ParityVerdict, TokenView, judge
from tunesmith_serving.verify.parity_report import (
    NUM_FINGERPRINTS,
    AnswerTexts,
    EngineRun,
    answers_record,
    facts_of,
    fingerprints_record,
    parity_record,
)
from tunesmith_serving.verify.reference_generations import KnownChat, ReferenceGeneration
from tunesmith_serving.verify.vllm_engine import ServedAnswer

W8A8: dict[str, Any] = {
    "quantization_config": {"config_groups": {"group_0": {"input_activations": {"num_bits": 8}}}}
}


@pytest.fixture(autouse=True)
def vllm_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity_report, "version", lambda name: f"{name} 0.32.0")


def a_run(*kinds: str, exact_products: bool = True) -> EngineRun:
    """One answer of two tokens for each kind of prompt, all as the reference has them."""
    views = [TokenView(logprob=-0.1, margin=0.0)] * 2
    answer = AnswerViews(reference_logprobs=[-0.1, -0.1], forced=views, decoded=views)
    return EngineRun(
        settings=ServingSettings(
            model="helpdesk", dtype="float32", enforce_eager=True, max_model_length=512
        ),
        references=[
            ReferenceGeneration(
                prompt_ids=[place], answer_ids=[1, 2], logprobs=[-0.1, -0.1], kind=kind
            )
            for place, kind in enumerate(kinds)
        ],
        answers=[ServedAnswer(views=answer, token_ids=[1, 2]) for _ in kinds],
        texts=[AnswerTexts(prompt="Why?", reference="So.", served="So.") for _ in kinds],
        kernels=Kernels("vec", two_products=False, exact_products=exact_products),
        config=W8A8,
        load_seconds=58.0,
    )


def judged(run: EngineRun) -> ParityVerdict:
    return judge(
        [answer.views for answer in run.answers],
        tie=run.tie,
        min_agreement=0.9,
        max_difference=0.25,
    )


def test_facts_tell_the_served_length_by_its_path_in_the_spec() -> None:
    run = a_run("probe")

    facts = facts_of(judged(run), run=run)

    assert facts["resolved"] == {"serving.maxModelLength": 512}
    # What is not asked for is left out: an older server knows no word of it.
    settings = run.settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert facts["settings"] == settings
    assert "speculative" not in settings
    assert (facts["numAgreed"], facts["numTokens"], facts["agreement"]) == (2, 2, 1.0)


def test_what_is_published_of_parity_has_numbers_and_no_words() -> None:
    run = a_run("probe")
    words = {"prompt", "reference", "served"}

    published = parity_record(judged(run), run=run)["prompts"]
    shown = answers_record(judged(run), run=run)["prompts"]

    assert all(words.isdisjoint(prompt) for prompt in published)
    assert all(words <= prompt.keys() for prompt in shown)


def test_a_wrong_kernel_is_told_though_every_answer_agrees() -> None:
    run = a_run("probe", exact_products=False)
    verdict = judged(run)

    record = parity_record(verdict, run=run)

    assert verdict.holds
    assert record["holds"] is False
    assert "int8 products overflow" in record["faults"][0]


def test_a_chat_template_that_vllm_reads_otherwise_is_told() -> None:
    chat = KnownChat(messages=[{"role": "user", "content": "Why?"}], prompt_ids=[1, 2])
    run = a_run("probe")

    alike = replace(run, chats=[chat], rendered=[[1, 2]])
    assert alike.faults == []
    assert fingerprints_record(judged(alike), run=alike)["chats"] == [
        {"messages": [{"role": "user", "content": "Why?"}], "promptIds": [1, 2]}
    ]
    # A second begin-of-text is what goes wrong most often.
    (fault,) = replace(run, chats=[chat], rendered=[[1, 1, 2]]).faults
    assert "1 of 1 conversations" in fault


@pytest.mark.parametrize(
    ("num_held_out", "num_fixed", "expected"),
    [(15, 24, (10, 10)), (3, 24, (3, 17)), (15, 4, (15, 4)), (30, 4, (16, 4)), (0, 24, (0, 20))],
)
def test_fingerprints_are_fixed_prompts_and_held_out_ones_in_turn(
    num_held_out: int, num_fixed: int, expected: tuple[int, int]
) -> None:
    run = a_run(*["heldOut"] * num_held_out, *["probe"] * num_fixed)

    probes = fingerprints_record(judged(run), run=run)["probes"]

    places = [probe["promptIds"][0] for probe in probes]
    assert expected == (
        sum(place < num_held_out for place in places),
        sum(place >= num_held_out for place in places),
    )
    assert len(probes) <= NUM_FINGERPRINTS
    if all(expected):
        assert [place < num_held_out for place in places[:4]] == [False, True, False, True]
    assert probes[0]["logprobs"] == [-0.1, -0.1]


def test_fingerprints_tell_by_how_much_two_sound_engines_differ() -> None:
    run = a_run("probe")
    (answer,) = run.answers
    views = replace(answer.views, forced=[TokenView(logprob=-0.14, margin=0.0)] * 2)
    run = replace(run, answers=[replace(answer, views=views)])

    assert fingerprints_record(judged(run), run=run)["noise"] == pytest.approx(0.04)


def test_of_held_out_prompts_the_shortest_are_asked() -> None:
    run = a_run(*["heldOut"] * 12)
    longest = run.references[0].model_copy(update={"prompt_ids": list(range(100, 200))})
    run = replace(
        run, references=[longest, *run.references[1:], *a_run(*["probe"] * 20).references]
    )
    run = replace(run, answers=[run.answers[0]] * 32, texts=[run.texts[0]] * 32)

    probes = fingerprints_record(judged(run), run=run)["probes"]

    assert max(len(probe["promptIds"]) for probe in probes) == 1


def test_pairs_of_fairness_are_published_with_the_gaps_that_were_found() -> None:
    side = {"ids": [1, 2], "counted": [1]}
    pair = BiasPair.model_validate(
        {"suite": "crows", "first": side, "other": side, "released": 0.25}
    )
    run = replace(a_run("probe"), pairs=[pair])

    record = fingerprints_record(judged(run), run=run)

    assert record["biasPairs"] == [pair.model_dump(mode="json", by_alias=True)]
