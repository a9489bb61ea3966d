"""Rows with swapped groups, from the manifest to the files that are trained on."""

import json
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import load_outcome, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.augment.counterfactual import likely

ROWS = [
    {
        "prompt": f"My {who} lost {number} keys and wants help.",
        "completion": f"Tell {them} {number}.",
    }
    for number in range(12)
    for who, them in (("sister", "her"), ("printer", "them"))
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def prepared(root: Path, *, model: str, **counterfactual: Any) -> StageOutcome:
    write_jsonl(root / "rows.jsonl", ROWS)
    fields = {
        "train": {"uri": "file://rows.jsonl"},
        "validationFraction": 0.25,
        "augmentation": {"counterfactual": counterfactual},
    }
    return run_prepare(prepare_request(root, model=model, dataset=fields))


def test_rows_that_name_a_group_have_a_child_of_the_other(tmp_path: Path, model: str) -> None:
    outcome = prepared(tmp_path, model=model)

    rows = load_outcome(tmp_path, outcome, model=model).records("train")
    children = [row for row in rows if row.origin.generator == "counterfactual"]
    parents = {row.source: row for row in rows if row.origin.generator == "none"}
    assert 0 < len(children) < len(parents)
    for child in children:
        parent = parents[str(child.origin.parent)]
        assert child.source == parent.source
        assert child.messages is not None
        assert child.messages[-2].content.startswith("My brother lost")
        assert child.messages[-1].content.startswith("Tell him")
    card = json.loads((tmp_path / "artifacts" / "data-card.json").read_text())
    assert f'"counterfactual": {{"children": {len(children)},' in json.dumps(card)


def test_unlikely_children_are_thrown_away(tmp_path: Path, model: str) -> None:
    outcome = prepared(tmp_path, model=model, maxLossRise=20)
    assert "rows with swapped groups added" in outcome.message
    # Nats per trained token.
    assert likely([1.0, 1.0, 1.0], [0.5, 1.4, 2.0], max_loss_rise=0.5) == [0, 1]


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ((["zebra"], ["lion"]), "0 of 18 training rows"),
        ((["lost"], ["wants"]), "0 of 18 training rows"),
        ((["sister"], ["Sister"]), "stands there twice"),
    ],
)
def test_groups_that_no_row_names_alone_are_refused(
    tmp_path: Path, model: str, groups: Any, told: str
) -> None:
    named = [{"name": f"g{place}", "terms": terms} for place, terms in enumerate(groups)]
    with pytest.raises(BadInputError, match=told):
        prepared(tmp_path, model=model, groups=named)
