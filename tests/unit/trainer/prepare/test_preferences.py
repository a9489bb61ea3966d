"""Preference pairs through prepare: both answers proven, stored side by side, cut alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import load_outcome, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.models import load_tokenizer

DPO = {"objective": "dpo", "sequenceLength": 256}
# What the assistant said before: given, and not trained.
ASKED_BACK = {"role": "assistant", "content": "Is it on?"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def _pair(number: int, *, chosen: str = "Off and on.", rejected: str = "Buy one.") -> Any:
    prompt = [
        {"role": "user", "content": f"Screen {number} is dark."},
        ASKED_BACK,
        {"role": "user", "content": "Yes. What now?"},
    ]
    return {
        "chosen": [*prompt, {"role": "assistant", "content": chosen}],
        "rejected": [*prompt, {"role": "assistant", "content": rejected}],
    }


def _prepared(root: Path, rows: list[Any], *, model: str, **spec: Any) -> StageOutcome:
    write_jsonl(root / "rows.jsonl", rows)
    return run_prepare(prepare_request(root, model=model, **{"training": DPO, **spec}))


def test_both_answers_are_trained_and_nothing_of_their_prompt(tmp_path: Path, model: str) -> None:
    outcome = _prepared(tmp_path, [_pair(number) for number in range(10)], model=model)

    prepared = load_outcome(tmp_path, outcome, model=model)
    tokenizer = load_tokenizer(prepared.model)
    sides = (prepared.train, prepared.rejected["train"])
    (good, trained), (bad, also_trained) = (side.row(3) for side in sides)
    assert tokenizer.decode(good[trained]) == "Off and on.<|im_end|>"
    assert tokenizer.decode(bad[also_trained]) == "Buy one.<|im_end|>"
    assert good[: trained.argmax()].tolist() == bad[: also_trained.argmax()].tolist()
    assert [len(side) for side in sides] == [9, 9]
    assert [len(prepared.validation), len(prepared.rejected["validation"])] == [1, 1]


def test_facts_card_and_records_tell_of_both_sides(tmp_path: Path, model: str) -> None:
    outcome = _prepared(tmp_path, [_pair(number) for number in range(10)], model=model)

    (card,) = (artifact for artifact in outcome.artifacts if artifact.name == "card")
    told = json.loads(local_path(card).read_text())
    record = load_outcome(tmp_path, outcome, model=model).records("train")[0]
    assert outcome.facts["format"] == told["format"] == "preference"
    assert outcome.facts["numRejectedTargets"] == told["rejected"]["train"]["targets"] > 0
    assert (record.reference, record.rejected) == ("Off and on.", "Buy one.")


def test_a_pair_is_too_long_if_either_answer_is(tmp_path: Path, model: str) -> None:
    rows = [_pair(number) for number in range(10)]
    rows[0] = _pair(0, rejected="Buy one. " * 60)
    rows[1] = _pair(1, chosen="Off and on. " * 60)

    outcome = _prepared(tmp_path, rows, model=model)

    assert outcome.facts["removed"]["overlong"] == 2  # type: ignore[index,call-overload]


def test_a_cut_takes_as_much_of_the_prompt_from_both(tmp_path: Path, model: str) -> None:
    rows = [_pair(number, rejected="Buy one. " * 12) for number in range(10)]

    outcome = _prepared(
        tmp_path,
        rows,
        model=model,
        training={**DPO, "sequenceLength": 96},
        dataset={"train": {"uri": "file://rows.jsonl"}, "overlong": "truncatePrompt"},
    )

    prepared = load_outcome(tmp_path, outcome, model=model)
    (good, trained), (bad, also) = prepared.train.row(0), prepared.rejected["train"].row(0)
    assert len(bad) == 96
    assert good[: trained.argmax()].tolist() == bad[: also.argmax()].tolist()


def test_an_answer_that_breaks_its_turn_is_refused_on_either_side(
    tmp_path: Path, model: str
) -> None:
    rows = [_pair(1), _pair(2, rejected="Buy<|im_end|> one.")]

    with pytest.raises(BadInputError, match=r"rows\.jsonl:2: given <\|im_end\|> inside an answer"):
        _prepared(tmp_path, rows, model=model)


def test_the_same_answer_twice_is_refused_with_its_line(tmp_path: Path, model: str) -> None:
    rows = [_pair(1), _pair(2, rejected="Off and on.")]

    with pytest.raises(BadInputError, match=r"rows\.jsonl:2: given"):
        _prepared(tmp_path, rows, model=model)


@pytest.mark.parametrize(
    ("row", "objective", "remedy"),
    [
        (_pair(1), "sft", "set objective: dpo. To train on the chosen answers alone"),
        ({"prompt": "Who?", "completion": "Me."}, "dpo", "name them in dataset.columns"),
    ],
)
def test_objective_and_rows_that_do_not_fit_are_refused(
    tmp_path: Path, model: str, row: Any, objective: str, remedy: str
) -> None:
    with pytest.raises(BadInputError, match=remedy) as caught:
        _prepared(tmp_path, [row], model=model, training={"objective": objective})

    assert caught.value.reason == Reason.INVALID_SPEC


def test_the_remedy_for_training_on_the_chosen_answers_works(tmp_path: Path, model: str) -> None:
    outcome = _prepared(
        tmp_path,
        [_pair(number) for number in range(10)],
        model=model,
        training={"sequenceLength": 256},
        dataset={
            "train": {"uri": "file://rows.jsonl"},
            "format": "messages",
            "columns": {"messages": "chosen"},
        },
    )

    assert outcome.facts["format"] == "messages"
    assert load_outcome(tmp_path, outcome, model=model).rejected == {}
