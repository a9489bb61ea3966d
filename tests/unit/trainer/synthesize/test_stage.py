"""New rows, from an endpoint to the files that are trained on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer, chat_server
from prepare_stage import SilentReporter, prepare_request, result_of, run_prepare, write_jsonl
from row_writer import RowWriterDouble
from small_models import make_tiny_model
from tunesmith_engine.stages.catalog import PREPARE, SYNTHESIZE
from tunesmith_engine.stages.contracts import StageOutcome, StageRequest, StageResult
from tunesmith_trainer.data.prepared import Prepared, load_prepared
from tunesmith_trainer.synthesize.stage import synthesize

ROWS = [
    {
        "prompt": f"Please tell me what is wrong with device {number}?",
        # Longer than new ones: of those that are longer than all others none is taken.
        "completion": f"Restart device {number}, then call us about ticket {number}. " * 3,
    }
    for number in range(20, 40)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared rows."""
    root = tmp_path_factory.mktemp("job")
    write_jsonl(root / "rows.jsonl", ROWS)
    return root


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> StageResult:
    model = make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()
    dataset = {"train": {"uri": "file://rows.jsonl"}, "validationFraction": 0.25}
    return result_of(run_prepare(prepare_request(folder, model=model, dataset=dataset)))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(RowWriterDouble()) as running:
        yield running


def request_of(
    folder: Path, prepared: StageResult, output: Path, url: str, **synthesis: Any
) -> StageRequest:
    prices = {"input": 1000.0, "output": 2000.0}
    endpoint = {"url": url, "model": "large", "pricePerMillionTokens": prices}
    given = {"generator": {"endpoint": endpoint}, **synthesis}
    dataset = {"train": {"uri": "file://rows.jsonl"}, "synthesis": given}
    request = prepare_request(folder, model="file://model", dataset=dataset)
    output.mkdir(exist_ok=True)
    return request.model_copy(
        update={
            "stage": SYNTHESIZE.name,
            "inputs": {PREPARE.name: prepared},
            "output": str(output),
        }
    )


def run(request: StageRequest) -> StageOutcome:
    return synthesize(request, SilentReporter())


def as_train_reads(request: StageRequest, outcome: StageOutcome) -> Prepared:
    result = result_of(outcome).model_copy(update={"stage": SYNTHESIZE.name})
    inputs = {**request.inputs, SYNTHESIZE.name: result}
    return load_prepared(request.model_copy(update={"inputs": inputs}))


def test_train_reads_new_rows_behind_the_others(
    folder: Path, prepared: StageResult, tmp_path: Path, server: ChatServer
) -> None:
    request = request_of(folder, prepared, tmp_path, server.url, ratio=0.6)

    outcome = run(request)

    before, after = load_prepared(request), as_train_reads(request, outcome)
    assert (len(before.train), len(after.train)) == (15, 24)
    assert after.validation.input_ids.tolist() == before.validation.input_ids.tolist()
    records = after.records("train")
    assert len(records) == 24
    assert [record.source for record in records[15:17]] == ["synthesized:1", "synthesized:2"]
    own = {record.source for record in records[:15]}
    for record in records[15:]:
        assert record.origin.generator == "selfInstruct"
        assert len(record.origin.examples) == 3
        assert set(record.origin.examples) <= own
        assert (record.origin.prompt_digest or "").startswith("sha256:")


def test_the_card_counts_rows_and_what_was_paid_and_holds_no_word_of_them(
    folder: Path, prepared: StageResult, tmp_path: Path, server: ChatServer
) -> None:
    run(request_of(folder, prepared, tmp_path, server.url, ratio=0.6))

    text = (tmp_path / "synthesis.json").read_text(encoding="utf-8")
    card = json.loads(text)
    assert (card["numRows"], card["rowsByGenerator"]) == (9, {"selfInstruct": 9})
    assert (card["generator"], card["critic"]) == ("large", "large")
    spent = card["spent"]
    assert spent["requests"] == len(server.requests) == 3 * 9
    tokens = spent["promptTokens"] * 1000 + spent["completionTokens"] * 2000
    assert spent["cost"] == pytest.approx(tokens / 1e6)
    assert card["scores"] == {"5": 9}
    assert "What now" not in text
    assert "device" not in text
