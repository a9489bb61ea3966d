"""The reference that prepare leaves: of the rows as a replica would see them, and without text."""

import json
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import asked, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model
from tunesmith_engine.drift.signals import SIGNALS, measure
from tunesmith_engine.drift.sketches import REFERENCE_FILE, Reference, Sketch
from tunesmith_engine.stages.digests import local_path
from tunesmith_trainer.models import load_tokenizer

PLANTED = "xyzzy-nobody-may-keep-this"
QUESTIONS = [f"What is wrong with device {number}?" for number in range(10)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def reference_of(root: Path, rows: list[Any], *, model: str) -> tuple[Reference, str]:
    write_jsonl(root / "rows.jsonl", rows)
    outcome = run_prepare(prepare_request(root, model=model))
    (artifact,) = [each for each in outcome.artifacts if each.name == "reference"]
    path = local_path(artifact)
    assert path.name == REFERENCE_FILE
    text = path.read_text(encoding="utf-8")
    return Reference.model_validate_json(text), text


def test_every_signal_that_rows_can_have_is_in_the_reference(tmp_path: Path, model: str) -> None:
    reference, _ = reference_of(tmp_path, asked(*QUESTIONS), model=model)

    assert (reference.training.num_requests, reference.validation.num_requests) == (9, 1)
    assert reference.training.signals.keys() == {
        signal.name
        for signal in SIGNALS
        # An answer of six words is too short to repeat itself.
        if signal.in_reference and signal.name != "repetition"
    }


def test_an_answer_counts_as_the_server_counts_it(tmp_path: Path, model: str) -> None:
    turns = [
        {"role": "user", "content": "It is broken."},
        {"role": "assistant", "content": "Which one?"},
        {"role": "user", "content": "The second."},
        {"role": "assistant", "content": "Turn it off."},
    ]
    rows = [{"messages": turns}, {"messages": [{"role": "user", "content": "No."}, *turns[1:]]}]

    reference, _ = reference_of(tmp_path, rows, model=model)

    tokenizer = load_tokenizer(Path(model.removeprefix("file://")))
    first, second = (sketch_of(row["messages"], tokenizer) for row in rows)
    # Which of them is held out is the split's affair.
    assert reference.training.merge(reference.validation) == first.merge(second)


def sketch_of(turns: list[dict[str, str]], tokenizer: Any) -> Sketch:
    """What a replica would count for both requests of the conversation."""
    requests = []
    for at in (1, 3):
        prompt = tokenizer.apply_chat_template(
            turns[:at], tokenize=True, add_generation_prompt=True, return_dict=False
        )
        answer = tokenizer(turns[at]["content"] + "<|im_end|>", add_special_tokens=False)
        bins = measure(
            turns[at - 1]["content"],
            turns[at]["content"],
            prompt_tokens=len(prompt),
            output_tokens=len(answer["input_ids"]),
        )
        requests.append(bins)
    return Sketch.of(requests)


def test_texts_are_answers_that_nobody_asked_for(tmp_path: Path, model: str) -> None:
    rows = [{"text": f"Device {number} has to be turned off and on again."} for number in range(4)]

    reference, _ = reference_of(tmp_path, rows, model=model)

    assert "answerWords" in reference.training.signals
    assert "promptTokens" not in reference.training.signals


def test_nothing_that_somebody_wrote_is_in_it(tmp_path: Path, model: str) -> None:
    rows = asked(*(f"{PLANTED} {question}" for question in QUESTIONS), answer=PLANTED)

    _, text = reference_of(tmp_path, rows, model=model)

    assert not any(part in text for part in PLANTED.split("-"))
    assert numbers_alone(json.loads(text))
    assert len(text) < 64 * 1024


def numbers_alone(value: Any) -> bool:
    """Whether there is no text in it but names of signals and fields."""
    if isinstance(value, dict):
        return all(map(numbers_alone, value.values()))
    return all(map(numbers_alone, value)) if isinstance(value, list) else isinstance(value, int)
