"""The prepare stage from files to artifacts, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from prepare_stage import asked, load_outcome, prepare_request, run_prepare, write_jsonl
from small_models import CHATML, make_tiny_model
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.models import load_tokenizer

QUESTIONS = tuple(f"What is wrong with device {number}?" for number in range(10))
QUICKSTART = Path(__file__).parents[4] / "examples" / "smalltalk" / "job.yaml"
HELPDESK = {"train": {"uri": "python://chatterbot_corpus/data/english/tech_support.yml"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def _prepared(root: Path, rows: list[Any], *, model: str, **spec: Any) -> StageOutcome:
    write_jsonl(root / "rows.jsonl", rows)
    return run_prepare(prepare_request(root, model=model, **spec))


def _refused(root: Path, rows: list[Any], *, model: str, **spec: Any) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        _prepared(root, rows, model=model, **spec)
    return caught.value


def _card(outcome: StageOutcome) -> Any:
    return json.loads(local_path(outcome.artifacts[2]).read_text(encoding="utf-8"))


def test_the_help_desk_corpus_becomes_seven_rows_to_learn_and_three_to_judge(
    tmp_path: Path, model: str
) -> None:
    dataset = {**HELPDESK, "validationFraction": 0.3}

    outcome = run_prepare(prepare_request(tmp_path, model=model, dataset=dataset))

    assert outcome.facts["numTrainRows"] == 7
    assert outcome.facts["numValidationRows"] == 3
    assert outcome.facts["removed"] == {
        "duplicates": 1040,
        "empty": 0,
        "overlong": 0,
        "inValidation": 0,
        "cleaned": 0,
        "bad": 0,
    }
    assert outcome.warnings == ["1040 of 1050 rows are exact duplicates of others"]


def test_the_quickstart_has_hundreds_of_distinct_rows(tmp_path: Path, model: str) -> None:
    dataset = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))["spec"]["dataset"]

    outcome = run_prepare(prepare_request(tmp_path, model=model, dataset=dataset))

    prepared = load_outcome(tmp_path, outcome, model=model)
    sides = [
        {(record.prompt, record.reference) for record in prepared.records(split)}
        for split in ("train", "validation")
    ]
    assert len(sides[0]) >= 300
    assert len(sides[1]) >= 60
    assert not sides[0] & sides[1]
    removed: Any = outcome.facts["removed"]
    assert removed["bad"] == 1
    assert removed["cleaned"] >= 20  # near-duplicates


def test_later_stages_read_the_same_rows_as_tokens_and_as_records(
    tmp_path: Path, model: str
) -> None:
    outcome = _prepared(tmp_path, asked(*QUESTIONS), model=model)

    prepared = load_outcome(tmp_path, outcome, model=model)
    record = prepared.records("train")[0]
    ids, trained = prepared.train.row(0)
    tokenizer = load_tokenizer(prepared.model)

    assert (len(prepared.train), len(prepared.validation)) == (9, 1)
    assert record.source == "rows.jsonl:1"
    assert tokenizer.decode(ids[~trained]).startswith(record.prompt)
    assert tokenizer.decode(ids[trained]) == f"{record.reference}<|im_end|>"


def test_the_sample_shows_what_is_trained(tmp_path: Path, model: str) -> None:
    _prepared(tmp_path, asked(*QUESTIONS), model=model)
    data = tmp_path / "artifacts" / "data"
    sample = json.loads((data / "sample.json").read_text(encoding="utf-8"))

    shown = [sample["text"][start:end] for start, end in sample["trained"]]

    assert shown == ["Turn it off and on again.<|im_end|>"]
    marked = (data / "sample.txt").read_text(encoding="utf-8")
    assert "⟦Turn it off and on again.<|im_end|>⟧" in marked


def test_the_same_data_gives_the_same_bytes(tmp_path: Path, model: str) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        outcome = _prepared(tmp_path / name, asked(*QUESTIONS), model=model)
        digests.append([artifact.digest for artifact in outcome.artifacts])

    assert digests[0] == digests[1]


def test_text_needs_no_chat_template_and_is_trained_whole(tmp_path: Path) -> None:
    plain = make_tiny_model(tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    rows = [{"text": question} for question in QUESTIONS]

    outcome = _prepared(tmp_path, rows, model=plain.as_uri())

    train = load_outcome(tmp_path, outcome, model=plain.as_uri()).train
    assert outcome.facts["format"] == "text"
    assert train.num_targets == len(train.input_ids) - len(train)


def test_conversations_need_a_chat_template(tmp_path: Path) -> None:
    plain = make_tiny_model(tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()

    error = _refused(tmp_path, asked(*QUESTIONS), model=plain.as_uri())

    assert error.reason is Reason.CHAT_TEMPLATE_MISSING
    assert "spec.model.chatTemplate" in error.message


def test_a_template_of_the_job_replaces_that_of_the_model(tmp_path: Path, model: str) -> None:
    template = CHATML.replace("You are a helpful assistant.", "Be brief.")

    write_jsonl(tmp_path / "rows.jsonl", asked(*QUESTIONS))
    request = prepare_request(tmp_path, model=model, chat_template=template)

    outcome = run_prepare(request)

    prepared = load_outcome(tmp_path, outcome, model=model)
    assert "Be brief." in (prepared.records("train")[0].prompt or "")
    assert load_tokenizer(prepared.model).chat_template == template
    assert (prepared.model / "model.safetensors").is_file()


def test_an_end_token_that_no_server_stops_at_is_warned_of(tmp_path: Path, model: str) -> None:
    template = CHATML.replace("<|im_end|>", "<|endoftext|>")
    write_jsonl(tmp_path / "rows.jsonl", asked(*QUESTIONS))

    outcome = run_prepare(prepare_request(tmp_path, model=model, chat_template=template))

    assert "answers end with <|endoftext|>" in outcome.warnings[0]


def test_a_template_that_hides_the_answer_is_refused_with_the_row_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changing = make_tiny_model(tmp_path / "changing")
    template = CHATML.replace("message['content']", "message['content'] | replace('off', 'OFF')")
    (changing / "chat_template.jinja").write_text(template, encoding="utf-8")

    error = _refused(tmp_path, asked(*QUESTIONS), model=changing.as_uri())

    assert error.reason is Reason.LOSS_MASK_INVALID
    assert error.message.startswith(
        "rows.jsonl:1, 2, 3, 4, 5: given a row whose rendering is in the"
    )
    assert error.message.endswith("and 5 more problems")
    assert "Turn it OFF" in caplog.text


def test_the_card_counts_rows_by_their_length(tmp_path: Path, model: str) -> None:
    outcome = _prepared(tmp_path, asked(*QUESTIONS, "Why? " * 30), model=model)

    prepared = load_outcome(tmp_path, outcome, model=model)
    lengths = [*prepared.train.lengths.tolist(), *prepared.validation.lengths.tolist()]
    histogram = _card(outcome)["lengthHistogram"]
    start, width, counts = histogram["start"], histogram["width"], histogram["counts"]
    edges = range(start, start + width * len(counts), width)
    assert counts == [sum(edge <= length < edge + width for length in lengths) for edge in edges]
    assert sum(counts) == 11
    assert 5 <= len(counts) <= 24
    assert min(counts[0], counts[-1]) > 0


def test_the_special_tokens_of_the_rows_are_told(tmp_path: Path, model: str) -> None:
    outcome = _prepared(tmp_path, asked(*QUESTIONS), model=model)

    assert outcome.facts["markers"] == ["<|im_end|>", "<|im_start|>"]


def test_rows_that_are_too_long_are_left_out_and_counted(tmp_path: Path, model: str) -> None:
    rows = [*asked(*QUESTIONS), *asked("Why? " * 300)]

    outcome = _prepared(tmp_path, rows, model=model)

    assert _card(outcome)["rows"] == {
        "read": 11,
        "kept": 10,
        "removed": {
            "duplicates": 0,
            "empty": 0,
            "overlong": 1,
            "inValidation": 0,
            "cleaned": 0,
            "bad": 0,
        },
    }
    assert "1 row(s) left out: longer than 256" in outcome.warnings


def test_turns_that_were_joined_are_counted_in_card_and_warning(tmp_path: Path, model: str) -> None:
    twice = [{"role": "user", "content": text} for text in ("Hello.", "Why?")]
    answer = {"role": "assistant", "content": "So."}
    rows = [{"messages": [*twice, {"role": "user", "content": f"{n}?"}, answer]} for n in range(9)]

    outcome = _prepared(tmp_path, rows, model=model)

    assert _card(outcome)["joinedTurns"] == 18
    assert any(each.startswith("18 turn(s) follow one of the same") for each in outcome.warnings)


def test_rows_that_are_too_long_can_be_refused(tmp_path: Path, model: str) -> None:
    dataset = {"train": {"uri": "file://rows.jsonl"}, "overlong": "fail"}

    error = _refused(tmp_path, asked(*QUESTIONS, "Why? " * 300), model=model, dataset=dataset)

    assert error.reason is Reason.DATASET_INVALID
    assert error.message.startswith("rows.jsonl:11: given a row of ")


def test_rows_that_are_too_long_can_lose_the_oldest_of_their_prompt(
    tmp_path: Path, model: str
) -> None:
    dataset = {"train": {"uri": "file://rows.jsonl"}, "overlong": "truncatePrompt"}
    rows = asked(*("Why? " * 300 + question for question in QUESTIONS))

    outcome = _prepared(tmp_path, rows, model=model, dataset=dataset)

    prepared = load_outcome(tmp_path, outcome, model=model)
    prompt = prepared.records("train")[0].prompt
    assert set(prepared.train.lengths) == {256}
    assert prompt is not None
    assert prompt.endswith("?<|im_end|>\n<|im_start|>assistant\n")
    assert not prompt.startswith("<|im_start|>")


def test_rows_never_exceed_the_context_of_the_model(tmp_path: Path, model: str) -> None:
    outcome = _prepared(tmp_path, asked(*QUESTIONS), model=model, training={"sequenceLength": 4096})

    assert "rows end at the model's context of 512" in outcome.warnings[0]


def test_rows_of_the_validation_source_are_left_out_of_training(tmp_path: Path, model: str) -> None:
    write_jsonl(tmp_path / "held.jsonl", asked(QUESTIONS[0]))
    dataset = {
        "train": {"uri": "file://rows.jsonl"},
        "validation": {"uri": "file://held.jsonl"},
    }

    outcome = _prepared(tmp_path, asked(*QUESTIONS), model=model, dataset=dataset)

    assert outcome.facts["numTrainRows"] == 9
    assert outcome.facts["numValidationRows"] == 1
    assert "1 training row(s) left out" in outcome.warnings[0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (asked(QUESTIONS[0]) * 3, "no validation rows left"),
        (asked(*QUESTIONS, answer=" "), "no training rows left"),
        (asked(*QUESTIONS, answer="x<|im_end|>y"), "given <|im_end|> inside an answer"),
        ([*asked(*QUESTIONS), {"text": "x"}], "rows.jsonl:11: given the fields text; rows of"),
    ],
)
def test_rows_that_leave_nothing_to_train_or_break_turns_are_refused(
    tmp_path: Path, model: str, rows: list[Any], said: str
) -> None:
    error = _refused(tmp_path, rows, model=model)

    assert error.reason is Reason.DATASET_INVALID
    assert said in error.message


def test_data_that_is_not_there_is_refused(tmp_path: Path, model: str) -> None:
    with pytest.raises(BadInputError, match=r"rows\.jsonl") as caught:
        run_prepare(prepare_request(tmp_path, model=model))

    assert caught.value.reason is Reason.DATASET_NOT_FOUND


def _replay_of(name: str) -> dict[str, Any]:
    return {
        "train": {"uri": "file://rows.jsonl"},
        "replay": {"ratio": 0.1, "source": {"uri": f"file://{name}"}},
    }


def test_replay_rows_are_tokenized_beside_the_splits(tmp_path: Path, model: str) -> None:
    write_jsonl(tmp_path / "general.jsonl", [{"text": "The sea is salt."}, {"text": "Iron rusts."}])

    outcome = _prepared(
        tmp_path, asked(*QUESTIONS), model=model, dataset=_replay_of("general.jsonl")
    )

    rows = TokenRows.load(local_path(outcome.artifacts[1]) / "replay.safetensors")
    tokenizer = load_tokenizer(local_path(outcome.artifacts[0]))
    assert [tokenizer.decode(rows.row(row)[0]) for row in range(2)] == [
        "The sea is salt.<|im_end|>",
        "Iron rusts.<|im_end|>",
    ]
    assert outcome.facts["numReplayRows"] == 2


def test_rows_that_are_learnt_anyway_are_no_replay(tmp_path: Path, model: str) -> None:
    refused = _refused(tmp_path, asked(*QUESTIONS), model=model, dataset=_replay_of("rows.jsonl"))

    assert "dataset.replay.source: 10 of its 10 rows are rows of this job" in refused.message
