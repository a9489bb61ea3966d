"""Children of training rows, from the manifest to the files that are trained on."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chat_server import ChatServer, Messages, chat_server
from prepare_stage import load_outcome, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.augment import children
from tunesmith_trainer.data.prepared import RowRecord

DEVICES = [f"device {number}" for number in range(20, 40)]
ROWS = [
    {"prompt": f"Please tell me what is wrong with {device}?", "completion": f"Restart {device}."}
    for device in DEVICES
]


def politely(messages: Messages) -> str:
    text = messages[-1]["content"].removeprefix("<text>\n").removesuffix("\n</text>")
    return text.replace("Please tell me what is wrong", "Kindly explain to me what is wrong")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(politely) as running:
        yield running


def paraphrase(url: str, **fields: Any) -> dict[str, Any]:
    prices = {"input": 1000.0, "output": 2000.0}
    endpoint = {"url": url, "model": "large", "pricePerMillionTokens": prices}
    return {"paraphrase": {"endpoint": endpoint, "minSimilarity": 0.3}, **fields}


def prepared(root: Path, *, model: str, rows: list[Any] = ROWS, **dataset: Any) -> StageOutcome:
    write_jsonl(root / "rows.jsonl", rows)
    fields = {"train": {"uri": "file://rows.jsonl"}, "validationFraction": 0.25, **dataset}
    return run_prepare(prepare_request(root, model=model, dataset=fields))


def records(root: Path, outcome: StageOutcome, split: Any, *, model: str) -> list[RowRecord]:
    return load_outcome(root, outcome, model=model).records(split)


def card_of(root: Path) -> Any:
    return json.loads((root / "artifacts" / "data-card.json").read_text(encoding="utf-8"))


def test_children_follow_their_parents_and_say_who_wrote_them(
    tmp_path: Path, model: str, server: ChatServer
) -> None:
    outcome = prepared(tmp_path, model=model, augmentation=paraphrase(server.url, ratio=0.6))

    train = records(tmp_path, outcome, "train", model=model)
    given = {record.source: record for record in train if record.origin.generator == "none"}
    children = [record for record in train if record.origin.generator == "paraphrase"]
    assert (len(given), len(children)) == (15, 9)
    for child in children:
        parent = given[child.origin.parent or ""]
        assert child.reference == parent.reference
        assert "Kindly explain" in (child.prompt or "")
        assert (child.origin.prompt_digest or "").startswith("sha256:")
    assert outcome.facts["numTrainRows"] == 24
    assert "9 children added (9 paraphrase; 0 texts thrown away)" in outcome.message


def test_the_card_counts_rows_by_generator_and_what_was_paid(
    tmp_path: Path, model: str, server: ChatServer
) -> None:
    prepared(tmp_path, model=model, augmentation=paraphrase(server.url, ratio=0.6))

    card = card_of(tmp_path)
    spent = card["augmentation"]["spent"]["paraphrase"]
    assert card["rowsByGenerator"] == {"none": 20, "paraphrase": 9}
    assert card["rows"]["kept"] == 20
    assert spent["requests"] == 9
    tokens = spent["promptTokens"] * 1000 + spent["completionTokens"] * 2000
    assert spent["cost"] == pytest.approx(tokens / 1e6)


def test_held_out_rows_are_those_of_a_job_without_it(
    tmp_path: Path, model: str, server: ChatServer
) -> None:
    plain = records(tmp_path, prepared(tmp_path, model=model), "validation", model=model)

    outcome = prepared(tmp_path, model=model, augmentation=paraphrase(server.url, ratio=1.0))

    assert records(tmp_path, outcome, "validation", model=model) == plain
    parents = {record.origin.parent for record in records(tmp_path, outcome, "train", model=model)}
    assert not parents & {record.source for record in plain}


def test_another_attempt_asks_for_nothing_again(
    tmp_path: Path, model: str, server: ChatServer
) -> None:
    settings = paraphrase(server.url, ratio=0.6)
    first = prepared(tmp_path, model=model, augmentation=settings)
    asked = len(server.requests)

    second = prepared(tmp_path, model=model, augmentation=settings)

    assert len(server.requests) == asked == 9
    assert [one.digest for one in first.artifacts] == [one.digest for one in second.artifacts]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: "", id="empty"),
        pytest.param(lambda _: "As a language model I cannot help with this.", id="refusal"),
        pytest.param(lambda messages: messages[-1]["content"], id="echo"),
        pytest.param(
            lambda messages: politely(messages).replace("device ", "device 1"), id="other numbers"
        ),
        pytest.param(lambda messages: f"{politely(messages)}<|im_end|>", id="a mark of turns"),
        pytest.param(lambda messages: politely(messages) * 9, id="without end"),
    ],
)
def test_a_generator_that_writes_nonsense_adds_nothing_and_is_told(
    tmp_path: Path, model: str, answer: Any
) -> None:
    with chat_server(answer) as server, pytest.raises(BadInputError) as caught:
        prepared(tmp_path, model=model, augmentation=paraphrase(server.url))

    assert "dataset.augmentation: not one child of 15 rows is of use" in caught.value.message
    assert "device" not in caught.value.message


def test_a_child_that_asks_what_a_held_out_row_asks_is_thrown_away(
    tmp_path: Path, model: str
) -> None:
    write_jsonl(tmp_path / "held_out.jsonl", ROWS[:1])
    rows = [{**ROWS[0], "prompt": ROWS[0]["prompt"].replace("Please", "Just")}, *ROWS[1:]]

    with chat_server(lambda messages: politely(messages).replace("Just", "Please")) as server:
        outcome = prepared(
            tmp_path,
            model=model,
            rows=rows,
            augmentation=paraphrase(server.url, ratio=1.0),
            validation={"uri": "file://held_out.jsonl"},
            validationFraction=None,
        )

    assert card_of(tmp_path)["augmentation"]["thrownAway"] == {"heldOut": 1}
    assert outcome.facts["numTrainRows"] == 39


def test_both_answers_of_a_preference_get_the_same_prompt(
    tmp_path: Path, model: str, server: ChatServer
) -> None:
    rows = [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "No idea."}
        for row in ROWS
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    dataset = {"train": {"uri": "file://rows.jsonl"}, "augmentation": paraphrase(server.url)}
    training = {"sequenceLength": 256, "objective": "dpo"}

    request = prepare_request(tmp_path, model=model, dataset=dataset, training=training)
    outcome = run_prepare(request)

    train = records(tmp_path, outcome, "train", model=model)
    children = [record for record in train if record.origin.parent]
    assert children
    assert all(child.rejected == "No idea." for child in children)
    assert all("Kindly" in (child.prompt or "") for child in children)


def test_texts_have_no_prompts(tmp_path: Path, model: str, server: ChatServer) -> None:
    rows = [{"text": row["prompt"]} for row in ROWS]

    with pytest.raises(BadInputError, match="turns: given prompts; rows of format text have none"):
        prepared(tmp_path, model=model, rows=rows, augmentation=paraphrase(server.url))
    outcome = prepared(
        tmp_path, model=model, rows=rows, augmentation=paraphrase(server.url, turns="all")
    )

    train = records(tmp_path, outcome, "train", model=model)
    assert sum("Kindly" in (record.text or "") for record in train) == 8


def test_answers_change_only_where_they_may(tmp_path: Path, model: str) -> None:
    def answer(messages: Messages) -> str:
        return politely(messages).replace("Restart", "Reboot")

    with chat_server(answer) as server:
        outcome = prepared(tmp_path, model=model, augmentation=paraphrase(server.url, turns="all"))

    train = records(tmp_path, outcome, "train", model=model)
    children = [record for record in train if record.origin.parent]
    assert {(record.reference or "").split()[0] for record in children} == {"Reboot"}


def test_a_missing_key_is_told_before_anything_is_read(tmp_path: Path, model: str) -> None:
    endpoint = {"url": "http://127.0.0.1:9", "model": "large", "secretRef": {"name": "none"}}

    with pytest.raises(BadInputError) as caught:
        prepared(tmp_path, model=model, augmentation={"paraphrase": {"endpoint": endpoint}})

    assert caught.value.reason is Reason.SECRET_NOT_FOUND


def test_balancing_counts_children(tmp_path: Path, model: str, server: ChatServer) -> None:
    rows = [{**row, "topic": "a" if at < 12 else "b"} for at, row in enumerate(ROWS)]

    prepared(
        tmp_path,
        model=model,
        rows=rows,
        augmentation=paraphrase(server.url, ratio=1.0),
        balance={"columns": ["topic"]},
    )

    groups = card_of(tmp_path)["balance"]["groups"]
    assert sum(group["before"] for group in groups) == 30
    assert groups[0]["after"] == groups[1]["after"]


def test_children_that_the_disk_has_no_room_for_are_refused_before_any_is_asked_for(
    tmp_path: Path, model: str, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=100))
    monkeypatch.setattr(children, "shutil", full)

    with pytest.raises(BadInputError, match=r"augmentation.ratio: given 1.0; the children") as told:
        prepared(tmp_path, model=model, augmentation=paraphrase(server.url, ratio=1.0))

    assert told.value.reason == Reason.DISK_ESTIMATE_EXCEEDED


def test_a_child_that_is_a_row_of_a_benchmark_is_thrown_away(
    tmp_path: Path, model: str, server: ChatServer
) -> None:
    (tmp_path / "benchmark.jsonl").write_text(
        "".join(
            f'{{"text": "Kindly explain to me what is wrong with {device}? Restart {device}."}}\n'
            for device in DEVICES[:10]
        )
    )
    contamination = {"against": [{"uri": "file://benchmark.jsonl"}], "overlap": 1.0}

    prepared(
        tmp_path,
        model=model,
        augmentation=paraphrase(server.url, ratio=1.0),
        cleaning={"contamination": contamination},
    )

    card = card_of(tmp_path)["augmentation"]
    assert set(card["thrownAway"]) == {"heldOut"}
    assert 1 <= card["thrownAway"]["heldOut"] <= 10
    assert card["children"]["paraphrase"] + card["thrownAway"]["heldOut"] == 15
