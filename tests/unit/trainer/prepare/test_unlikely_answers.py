"""Answers that the base model finds no likelier behind their own prompt than behind others'."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from prepare_stage import load_outcome, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model, make_tiny_tokenizer
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.prepare import unlikely_answers
from tunesmith_trainer.prepare.unlikely_answers import suspected

WORDS = [chr(97 + place % 26) * (2 + place // 26) for place in range(60)]
SWAPPED = {7, 23}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def rows() -> list[dict[str, str]]:
    """Answers that repeat their prompt's word, but for two."""
    other = dict(zip(SWAPPED, reversed([*SWAPPED]), strict=True))
    return [
        {"prompt": f"Say {word}!", "completion": f"{WORDS[other.get(place, place)]} it is."}
        for place, word in enumerate(WORDS)
    ]


def prepared(root: Path, given: list[Any], *, model: str, **settings: Any) -> StageOutcome:
    write_jsonl(root / "rows.jsonl", given)
    write_jsonl(root / "held-out.jsonl", given[:1])
    fields = {
        "train": {"uri": "file://rows.jsonl"},
        "validation": {"uri": "file://held-out.jsonl"},
        "cleaning": {"nearDuplicates": {"policy": "keep"}, "unlikelyAnswers": settings},
    }
    return run_prepare(prepare_request(root, model=model, dataset=fields))


def audited(root: Path) -> list[tuple[str, str]]:
    lines = (root / "artifacts" / "cleaning-audit.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [(each["row"], each["action"]) for each in found if each["rule"] == "unlikelyAnswers"]


@pytest.fixture
def _knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base model that expects the word of the prompt in the answer."""
    tokenizer = make_tiny_tokenizer()

    def mean_losses(rows: TokenRows, **_: Any) -> NDArray[np.float64]:
        losses = []
        for ids, trained in map(rows.row, range(len(rows))):
            asked = tokenizer.decode(ids[~trained].tolist()).rpartition("Say ")[2].partition("!")[0]
            said = tokenizer.decode(ids[trained].tolist())
            losses.append(0.5 if said == f"{asked} it is.<|im_end|>" else 1.5)
        return np.array(losses)

    monkeypatch.setattr(unlikely_answers, "mean_losses", mean_losses)


def test_what_the_own_prompt_does_not_help_is_suspected() -> None:
    own = np.array([1.0, 2.0, 3.0, 1.5])
    others = np.array([[2.0, 3.0], [1.0, 2.0], [3.0, 3.0], [1.0, 2.1]])

    assert suspected(own, others).tolist() == [1, 2]


@pytest.mark.usefixtures("_knowing")
def test_suspects_are_named_or_removed_and_counted(tmp_path: Path, model: str) -> None:
    for policy, action in (("warn", "kept"), ("remove", "removed")):
        root = tmp_path / policy
        root.mkdir()
        outcome = prepared(root, rows(), model=model, policy=policy)

        assert audited(root) == [("rows.jsonl:8", action), ("rows.jsonl:24", action)]
        facts: Any = outcome.facts
        assert facts["cleaning"]["unlikelyAnswers"] == {action: 2}
        card = json.loads((root / "artifacts" / "data-card.json").read_text())
        left = [row.source for row in load_outcome(root, outcome, model=model).records("train")]
        assert card["cleaning"]["unlikelyAnswers"] == {action: 2}
        assert card["rows"]["kept"] == (60 if policy == "warn" else 58)
        assert ("rows.jsonl:8" in left) <= (policy == "warn")
    assert "removed by cleaning: unlikelyAnswers 2" in outcome.message
    assert facts["removed"]["cleaned"] == 2


@pytest.mark.usefixtures("_knowing")
def test_nothing_is_suspected_of_rows_that_the_base_cannot_tell_apart(
    tmp_path: Path, model: str
) -> None:
    turned = [
        {**row, "completion": other["completion"]}
        for row, other in zip(rows(), [*rows()[1:], rows()[0]], strict=True)
    ]

    outcome = prepared(tmp_path, turned, model=model, policy="remove")

    assert audited(tmp_path) == []
    assert any("of 60 answers no likelier behind" in warning for warning in outcome.warnings)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"text": f"Say {word}!"} for word in WORDS], "texts answer nothing"),
        (rows()[:40], "40 rows are too few: it takes 50"),
        ([{"prompt": "Say it!", "completion": word} for word in WORDS], "all prompts are the same"),
    ],
)
def test_what_cannot_be_judged_is_said(
    tmp_path: Path, model: str, given: list[Any], said: str
) -> None:
    outcome = prepared(tmp_path, given, model=model, policy="warn")

    assert any(
        warning.startswith("cleaning.unlikelyAnswers suspects no row: ") and said in warning
        for warning in outcome.warnings
    )


def test_the_base_model_itself_is_asked(tmp_path: Path, model: str) -> None:
    # Of random weights no prompt helps any answer: half of the rows are no likelier.
    outcome = prepared(tmp_path, rows(), model=model, policy="warn", prompts=1)

    assert any("answers no likelier behind their own" in warning for warning in outcome.warnings)


def test_an_answer_is_tried_behind_its_own_prompt_and_others_that_differ() -> None:
    tokens = [
        # Prompts of two tokens, of which three are the same, and answers of one.
        ((place if place > 2 else 0, 50, 100 + place), (False, False, True))
        for place in range(8)
    ]
    answers = unlikely_answers._Answers(TokenRows.of(tokens), np.full(8, 2))

    tried = answers.behind_others(2, seed=3, longest=3)

    assert len(tried) == 8 * 3
    for row in range(8):
        own, *others = (tried.row(3 * row + step)[0].tolist() for step in range(3))
        assert own == list(tokens[row][0])
        assert {ids[-1] for ids in others} == {100 + row}
        assert own[0] not in {ids[0] for ids in others}
    short = answers.behind_others(1, seed=0, longest=2)
    assert {len(short.row(place)[0]) for place in range(16)} == {2}
