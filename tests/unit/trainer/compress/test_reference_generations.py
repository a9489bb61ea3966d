"""What the server will be asked, and what it must say."""

from pathlib import Path
from typing import Any

import pytest

from tuned_job import make_tuned_job, request_for
from tunesmith_engine.stages.catalog import COMPRESS
from tunesmith_trainer.compress import reference_generations
from tunesmith_trainer.compress.reference_generations import (
    PROBE_PROMPTS,
    PromptIds,
    generate_reference,
    reference_prompts,
)
from tunesmith_trainer.data.prepared import load_prepared
from tunesmith_trainer.evaluate.generation import Answer, generate_ids
from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring, token_logprobs
from tunesmith_trainer.models import load_tokenizer


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("tuned"))


def prompts_of(job: Path, output: Path, **spec: Any) -> list[PromptIds]:
    request = request_for(job, COMPRESS.name, output=output, **spec)
    return reference_prompts(request, load_prepared(request), load_tokenizer(job / "model"))


def test_there_are_at_least_twenty_different_questions() -> None:
    assert len(set(PROBE_PROMPTS)) == len(PROBE_PROMPTS) >= 20


def test_rows_come_first_and_all_questions_follow(job: Path, tmp_path: Path) -> None:
    kinds = [each.kind for each in prompts_of(job, tmp_path, verification={"prompts": 3})]

    assert kinds == ["heldOut"] * 3 + ["probe"] * len(PROBE_PROMPTS)


def test_training_rows_fill_up_where_held_out_ones_are_few(job: Path, tmp_path: Path) -> None:
    found = prompts_of(job, tmp_path, verification={"prompts": 7})

    assert sum(each.kind == "heldOut" for each in found) == 7


def test_prompts_end_where_the_answer_starts(job: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(job / "model")

    for prompt in prompts_of(job, tmp_path):
        assert tokenizer.decode(prompt.ids).endswith("<|im_start|>assistant\n")


def test_prompts_that_leave_no_room_for_an_answer_are_passed_over(
    job: Path, tmp_path: Path
) -> None:
    lengths = [len(each.ids) for each in prompts_of(job, tmp_path)]
    room = sorted(lengths)[len(lengths) // 2]

    found = prompts_of(
        job,
        tmp_path,
        serving={"maxModelLength": room + 8},
        verification={"maxNewTokens": 8},
    )

    assert max(len(each.ids) for each in found) == room


def test_answers_carry_the_log_probability_of_each_token(job: Path) -> None:
    model, tokenizer = load_for_scoring(job / "model"), load_tokenizer(job / "model")
    prompt = PromptIds([5, 6, 7], "probe")

    found: Any = generate_reference(model, tokenizer, [prompt], max_new_tokens=5)

    (record,) = found["prompts"]
    assert record["promptIds"] == [5, 6, 7]
    assert len(record["answerIds"]) == len(record["logprobs"]) > 0
    sequence = [*record["promptIds"], *record["answerIds"]]
    logprobs = token_logprobs(model, sequence, num_last=len(record["answerIds"]))
    assert record["logprobs"] == pytest.approx(logprobs, abs=1e-5)


def test_what_was_answered_before_is_not_asked_again(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_for_scoring(job / "model"), load_tokenizer(job / "model")
    prompts = [PromptIds([5, 6, number], "heldOut") for number in range(7, 11)]
    whole: Any = generate_reference(model, tokenizer, prompts, max_new_tokens=4)
    answers = [record["answerIds"] for record in whole["prompts"]]
    # Longer than asked for, as long, cut off too early, and of another prompt.
    known = [
        Answer((5, 6, 7), [*answers[0], 1, 2], ""),
        Answer((5, 6, 8), answers[1], ""),
        Answer((5, 6, 9), [7, 7], ""),
        Answer((1, 2, 3), answers[3], ""),
    ]
    asked: list[Any] = []

    def generate(*arguments: Any, **options: Any) -> list[list[int]]:
        asked.extend(arguments[1])
        return generate_ids(*arguments, **options)

    monkeypatch.setattr(reference_generations, "generate_ids", generate)
    found = generate_reference(model, tokenizer, prompts, max_new_tokens=4, known=known)

    assert all(len(answer) == 4 for answer in answers), (
        "no answer ends early, or this shows nothing"
    )
    assert asked == [(5, 6, 9), (5, 6, 10)]
    assert found == whole
