"""The evaluate stage on a tiny model: what it measures, writes, refuses and judges."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from small_models import TINY_VOCABULARY
from tuned_job import QUESTIONS, SilentReporter, make_tuned_job, request_for
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.evaluate.stage import evaluate

SHORT = {"generation": {"maxNewTokens": 4}, "bootstrap": {"resamples": 200}, "gates": []}


def evaluated(job: Path, output: Path, **evaluation: Any) -> StageOutcome:
    request = request_for(job, EVALUATE.name, output=output, evaluation={**SHORT, **evaluation})
    return evaluate(request, SilentReporter())


@pytest.fixture(scope="module")
def outcome(job: Path, tmp_path_factory: pytest.TempPathFactory) -> StageOutcome:
    return evaluated(job, tmp_path_factory.mktemp("evaluate"))


def found(outcome: StageOutcome, suite: str, metric: str) -> EvaluationResult:
    return next(each for each in outcome.evaluation if (each.suite, each.metric) == (suite, metric))


def test_loss_and_perplexity_of_both_suites_and_the_answers_are_measured(
    outcome: StageOutcome,
) -> None:
    measured = {(each.suite, each.metric) for each in outcome.evaluation}

    losses = {(suite, name) for suite in ("heldOut", "general") for name in ("loss", "perplexity")}
    assert measured == losses | {("heldOut", "rougeL")}
    assert all(each.split == "tuned" for each in outcome.evaluation)


def test_the_base_is_another_model_than_the_tuned_one(outcome: StageOutcome) -> None:
    loss = found(outcome, "heldOut", "loss")

    assert loss.base is not None
    assert abs(loss.base - loss.value) > 1e-4
    assert loss.base == pytest.approx(math.log(TINY_VOCABULARY), abs=1.0)


def test_perplexity_and_its_bounds_are_those_of_the_loss_raised(outcome: StageOutcome) -> None:
    loss, perplexity = (found(outcome, "general", name) for name in ("loss", "perplexity"))

    assert perplexity.value == pytest.approx(math.exp(loss.value))
    assert loss.low is not None
    assert perplexity.low == pytest.approx(math.exp(loss.low))
    assert loss.low <= loss.value


def test_few_rows_are_said_to_give_wide_intervals(outcome: StageOutcome) -> None:
    assert [each for each in outcome.warnings if "heldOut has 4 rows" in each]


def test_what_each_row_was_scored_adds_up_to_what_was_told(outcome: StageOutcome) -> None:
    written = json.loads(local_path(outcome.artifacts[1]).read_text())

    assert {(record["suite"], record["metric"]) for record in written} == {
        ("heldOut", "loss"), ("general", "loss"), ("heldOut", "rougeL"),
    }  # fmt: skip
    for record in written:
        told = found(outcome, record["suite"], record["metric"])
        assert sum(record["tuned"]) / sum(record["weights"]) == pytest.approx(told.value)
        assert sum(record["base"]) / sum(record["weights"]) == pytest.approx(told.base)
        assert len(set(record["rows"])) == len(record["rows"]) == told.n


def test_the_record_holds_results_verdicts_and_answers_before_and_after(
    outcome: StageOutcome,
) -> None:
    record = json.loads(local_path(outcome.artifacts[0]).read_text())

    assert [artifact.name for artifact in outcome.artifacts] == ["evaluation", "rowScores"]
    assert record["metric"] == "rougeL"
    assert len(record["results"]) == len(outcome.evaluation)
    assert {each["reference"] for each in record["samples"]} == {each for _, each in QUESTIONS}
    assert set(record["samples"][0]) == {"prompt", "reference", "base", "tuned"}


def test_the_metric_that_suits_the_data_is_told_by_its_path_in_the_spec(
    outcome: StageOutcome,
) -> None:
    assert outcome.facts["metric"] == "rougeL"
    assert outcome.facts["resolved"] == {"evaluation.generation.metric": "rougeL"}


def test_a_broken_gate_fails_the_job_and_keeps_the_numbers(job: Path, tmp_path: Path) -> None:
    with pytest.raises(VerdictError) as caught:
        evaluated(job, tmp_path, gates=[{"metric": "loss", "max": 0.5}])

    assert caught.value.reason == Reason.EVALUATION_GATE_FAILED
    assert "heldOut loss is" in caught.value.message
    assert "at most 0.5" in caught.value.message
    assert caught.value.findings is not None
    assert found(caught.value.findings, "heldOut", "loss").value > 0.5
    assert json.loads((tmp_path / "evaluation.json").read_text())["verdicts"][0]["holds"] is False


def test_a_gate_on_what_is_not_measured_is_refused_before_anything_is_measured(
    job: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match="heldOut chrf is not measured"):
        evaluated(job, tmp_path, gates=[{"metric": "chrf", "min": 0.1}])

    assert not (tmp_path / "evaluation.json").exists()


def test_a_whole_tuned_model_is_compared_as_adapters_are(tmp_path: Path) -> None:
    job = make_tuned_job(tmp_path / "full", method="full")

    loss = found(evaluated(job, tmp_path / "out", generation={"metric": "none"}), "heldOut", "loss")

    assert loss.base is not None
    assert abs(loss.base - loss.value) > 1e-4


def test_a_destroyed_model_is_called_diverged(tmp_path: Path) -> None:
    job = make_tuned_job(tmp_path / "lost", scale=float("nan"))

    with pytest.raises(VerdictError) as caught:
        evaluated(job, tmp_path / "out")

    assert caught.value.reason == Reason.LOSS_DIVERGED
