"""A string that is planted in rows is found where the rows are, and nowhere that others read."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import asked, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import StageError

PLANTED = "zyxplanted7f3e"
QUESTIONS = tuple(f"What does {PLANTED} say of device {number}?" for number in range(10))
# Every artifact that a version takes along, and what the operator reads.
PUBLISHED = ("card", "reference")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def prepared(root: Path, rows: list[Any], *, model: str, **dataset: Any) -> StageOutcome:
    write_jsonl(root / "rows.jsonl", rows)
    given = {"train": {"uri": "file://rows.jsonl"}, "validationFraction": 0.2, **dataset}
    return run_prepare(prepare_request(root, model=model, dataset=given))


def told(outcome: StageOutcome) -> str:
    """Everything of an outcome that goes into the report, the status and the card of the model."""
    return json.dumps([outcome.message, outcome.facts, outcome.warnings, outcome.versions])


def test_rows_are_in_no_report_no_log_and_no_published_file(
    tmp_path: Path, model: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [*asked(*QUESTIONS), *asked(QUESTIONS[0]), {"prompt": PLANTED}]
    with caplog.at_level(logging.DEBUG):
        outcome = prepared(tmp_path, rows, model=model, maxBadRows=1)

    files = {each.name: local_path(each) for each in outcome.artifacts}
    assert PLANTED in (files["data"] / "train.jsonl").read_text()
    assert PLANTED not in told(outcome)
    assert PLANTED not in caplog.text
    assert PLANTED not in "".join(capfd.readouterr())
    for name in PUBLISHED:
        assert PLANTED not in files[name].read_text(), name
    reports = [path for path in tmp_path.rglob("*.json") if path.parent == tmp_path]
    assert all(PLANTED not in path.read_text() for path in reports)


def test_rows_are_on_the_card_where_the_manifest_asks_for_them(tmp_path: Path, model: str) -> None:
    outcome = prepared(tmp_path, asked(*QUESTIONS), model=model, cardRows=2)

    (path,) = (local_path(each) for each in outcome.artifacts if each.name == "card")
    card = json.loads(path.read_text())
    assert len(card["sampleRows"]) == 2
    assert PLANTED in json.dumps(card["sampleRows"])
    assert PLANTED not in told(outcome)


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": f"{PLANTED} {n}", "completion": ""} for n in range(10)],
        [{"prompt": [PLANTED], "completion": {"a": PLANTED}}] * 10,
        [{"messages": [{"role": PLANTED, "content": PLANTED}]}] * 10,
    ],
    ids=["empty answers", "wrong types", "unknown role"],
)
def test_a_refusal_quotes_no_row(tmp_path: Path, model: str, rows: list[Any]) -> None:
    with pytest.raises(StageError) as refused:
        prepared(tmp_path, rows, model=model)

    assert PLANTED not in refused.value.message
