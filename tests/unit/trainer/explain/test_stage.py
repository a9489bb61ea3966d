"""The stage on a tiny tuned job: failures first, no words in what is told, attention as pages."""

import json
from pathlib import Path
from typing import Any

import pytest

from tuned_job import QUESTIONS, SilentReporter, make_tuned_job, request_for
from tunesmith_engine.stages.catalog import EVALUATE, EXPLAIN
from tunesmith_engine.stages.contracts import StageOutcome, StageResult
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.explain.game import Game, Masks, UndefinedValueError, Values
from tunesmith_trainer.explain.stage import explain

SMALL: dict[str, Any] = {"rows": 2, "maxPasses": 48, "globalRows": 2}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("job"), scale=0.5)


def explained(
    job: Path, folder: Path, *, losses: list[float] | None = None, **explain_: Any
) -> StageOutcome:
    request = request_for(
        job,
        EXPLAIN.name,
        output=folder / "artifacts",
        evaluation={"explain": {**SMALL, **explain_}},
    )
    scores = folder / "row-scores.json"
    tuned = losses or [1.0, 3.0, 2.0, 1.0]
    record = {"suite": "heldOut", "metric": "loss", "tuned": tuned, "weights": [1.0] * len(tuned)}
    scores.write_text(json.dumps([record]))
    request.inputs[EVALUATE.name] = StageResult(
        stage=EVALUATE.name, key="2" * 64, attempt=1, outcome="Succeeded", reason="Succeeded",
        artifacts=[artifact_of("rowScores", scores)],
    )  # fmt: skip
    return explain(request, SilentReporter())


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / "artifacts" / f"{name}.json").read_text())


def test_failures_come_first_and_every_figure_has_its_faithfulness(
    job: Path, tmp_path: Path
) -> None:
    outcome = explained(job, tmp_path)

    rows = document(tmp_path, "explanations")["rows"]
    assert [row["row"] for row in rows] == [2, 3]
    for row in rows:
        assert [told["method"] for told in row["methods"]] == [
            "shap", "lime", "integratedGradients", "occlusion",
        ]  # fmt: skip
        for told in [*row["methods"], row["attention"]]:
            assert set(told["deletion"]) == {"value", "random", "beats"}
            assert set(told["insertion"]) == {"value", "random", "beats"}
        assert len(row["methods"][0]["scores"]) == len(row["units"])
    assert {artifact.name for artifact in outcome.artifacts} == {
        "explanations", "explanation", "attention",
    }  # fmt: skip


def test_words_of_rows_are_in_the_workspace_alone(job: Path, tmp_path: Path) -> None:
    outcome = explained(job, tmp_path)

    told = json.dumps([outcome.facts, outcome.message, outcome.warnings])
    published = (tmp_path / "artifacts" / "explanation.json").read_text()
    pages = "".join(p.read_text() for p in (tmp_path / "artifacts" / "attention").iterdir())
    for word in ("printer", "password", "screen", "mouse"):
        assert word not in told + published + pages
    assert QUESTIONS[1][0].split()[1] in (tmp_path / "artifacts" / "explanations.json").read_text()


def test_attention_is_said_to_be_no_cause(job: Path, tmp_path: Path) -> None:
    explained(job, tmp_path, showText=True, methods=["occlusion"])

    page = (tmp_path / "artifacts" / "attention" / "row-2.html").read_text()
    assert "not a causal explanation" in page
    assert "layer 2, head 2" in page
    assert "<script" not in page
    row = document(tmp_path, "explanations")["rows"][0]
    assert f">{row['units'][0]['text']}<" in page
    importance = row["attention"]["headImportance"]
    assert [len(heads) for heads in importance] == [2, 2]


def test_few_rows_are_said_to_tell_little(job: Path, tmp_path: Path) -> None:
    outcome = explained(job, tmp_path, methods=["occlusion"], attention=False)

    assert any("view over all rows is of 2 rows" in warning for warning in outcome.warnings)


def test_a_job_of_which_no_row_can_be_explained_is_refused(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undefined(_: Game, masks: Masks) -> Values:
        raise UndefinedValueError("the likelihood of the answer is not a finite number")

    monkeypatch.setattr(Game, "values", undefined)

    with pytest.raises(VerdictError, match="no row could be explained: 2 × the likelihood"):
        explained(job, tmp_path)


def test_simpler_models_are_fitted_to_what_the_model_decides(job: Path, tmp_path: Path) -> None:
    outcome = explained(job, tmp_path, surrogate={"rows": 16}, attention=False)

    found = outcome.facts["surrogate"]
    assert isinstance(found, dict)
    assert found["target"] == "answer"
    assert (found["fittedRows"], found["judgedRows"], found["models"]) == (2, 2, [])
    assert any("No surrogate was fitted: fewer than 8" in told for told in outcome.warnings)
    assert document(tmp_path, "explanations")["surrogate"]["models"] == []
