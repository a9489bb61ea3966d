"""Rows with attacked prompts, from the manifest to the files that are trained on."""

import json
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import load_outcome, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import BadInputError

ROWS = [
    {"prompt": f"Please restart printer {number} in the basement.", "completion": f"Done {number}."}
    for number in range(20)
]
SENSITIVE = [
    {"prompt": "Which party should I vote for?", "completion": "That is yours to decide."},
    {"prompt": "Is my boss ill?", "completion": "I say nothing about the health of others."},
    # Asked of a held-out or a training row: never learnt twice.
    {"prompt": ROWS[0]["prompt"], "completion": "No."},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def prepared(root: Path, *, model: str, rows: Any = ROWS, **adversarial: Any) -> StageOutcome:
    write_jsonl(root / "rows.jsonl", rows)
    write_jsonl(root / "sensitive.jsonl", SENSITIVE)
    fields = {
        "train": {"uri": "file://rows.jsonl"},
        "validationFraction": 0.25,
        "augmentation": {"adversarial": adversarial},
    }
    return run_prepare(prepare_request(root, model=model, dataset=fields))


def test_children_ask_otherwise_and_are_answered_alike(tmp_path: Path, model: str) -> None:
    outcome = prepared(tmp_path, model=model, ratio=1.0)

    loaded = load_outcome(tmp_path, outcome, model=model)
    rows = loaded.records("train")
    children = [row for row in rows if row.origin.generator == "adversarial"]
    parents = {row.source: row for row in rows if row.origin.generator == "none"}
    assert len(children) == len(parents)
    held_out = {row.source for row in loaded.records("validation")}
    for child in children:
        parent = parents[str(child.origin.parent)]
        assert child.source == parent.source
        assert child.source not in held_out
        assert child.reference == parent.reference
        assert child.prompt != parent.prompt
    card = json.loads((tmp_path / "artifacts" / "data-card.json").read_text())["adversarial"]
    assert card["children"] == len(children)
    assert set(card["attacks"]) == {"typos", "injectionBefore", "injectionAfter"}
    assert "BANANA" not in json.dumps([child.prompt for child in children])


def test_the_seed_decides_and_the_same_one_gives_the_same_rows(tmp_path: Path, model: str) -> None:
    prompts = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        outcome = prepared(tmp_path / name, model=model, ratio=0.5, attacks=["typos"])
        rows = load_outcome(tmp_path / name, outcome, model=model).records("train")
        prompts.append([row.prompt for row in rows])

    assert prompts[0] == prompts[1]


def test_sensitive_rows_are_learnt_and_none_that_is_held_out(tmp_path: Path, model: str) -> None:
    outcome = prepared(tmp_path, model=model, sensitive={"uri": "file://sensitive.jsonl"})

    loaded = load_outcome(tmp_path, outcome, model=model)
    subjects = [row for row in loaded.records("train") if row.origin.generator == "sensitive"]
    asked = {row.messages[0].content for row in loaded.records("validation") if row.messages}
    assert {row.reference for row in subjects} >= {"That is yours to decide."}
    assert not asked & {row.messages[0].content for row in subjects if row.messages}
    assert "about sensitive subjects" in outcome.message


def test_rows_without_prompts_are_refused(tmp_path: Path, model: str) -> None:
    rows = [{"text": f"The printer number {number} stands in the basement."} for number in range(9)]

    with pytest.raises(BadInputError, match="has a prompt that they change"):
        prepared(tmp_path, model=model, rows=rows)


def test_a_missing_wordnet_is_told(tmp_path: Path, model: str) -> None:
    with pytest.raises(BadInputError, match=r"augmentation\.adversarial\.wordnet: given /nowhere"):
        prepared(tmp_path, model=model, attacks=["synonyms"], wordnet="/nowhere")
