"""The chain on a tiny model: measured of base, tuned and compressed, judged, told, and refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tuned_job import SilentReporter, request_for
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.evaluate.stage import evaluate
from tunesmith_trainer.publish.robustness import robustness_section
from tunesmith_trainer.robustness import suite

SHORT = {"generation": {"maxNewTokens": 4}, "bootstrap": {"resamples": 200}, "gates": []}


def evaluated(job: Path, output: Path, robustness: dict[str, Any], **spec: Any) -> StageOutcome:
    asked = {**SHORT, "robustness": robustness, **spec}
    return evaluate(
        request_for(job, EVALUATE.name, output=output, evaluation=asked), SilentReporter()
    )


@pytest.fixture(scope="module")
def outcome(job: Path, tmp_path_factory: pytest.TempPathFactory) -> StageOutcome:
    return evaluated(job, tmp_path_factory.mktemp("attacked"), {})


def test_every_attack_is_measured_of_both_models(outcome: StageOutcome) -> None:
    found = {one.metric: one for one in outcome.evaluation if one.suite == "robustness"}

    for attack in ("typos", "casing", "whitespace", "injectionBefore", "injectionAfter"):
        assert {f"{attack}.{name}" for name in ("loss", "lossRise", "score", "scoreDrop")} <= {
            *found
        }
    assert "injectionAfter.obeyedShare" in found
    assert "typos.obeyedShare" not in found
    rise = found["typos.lossRise"]
    assert rise.n == 4
    assert rise.low is not None
    assert rise.base is not None
    assert rise.base != rise.value


def test_the_rise_is_the_attacked_loss_less_the_clean_one(outcome: StageOutcome) -> None:
    written = json.loads(local_path(outcome.artifacts[0]).read_text())["robustness"]

    assert written == outcome.facts["robustness"]
    values = {(one["attack"], one["measure"]): one["value"] for one in written["numbers"]}
    # Injections change every row, so they are compared with all clean ones.
    rise = values["injectionAfter", "loss"] - values["clean", "loss"]
    assert values["injectionAfter", "lossRise"] == pytest.approx(rise)
    drop = values["clean", "score"] - values["injectionAfter", "score"]
    assert values["injectionAfter", "scoreDrop"] == pytest.approx(drop)


def test_an_answer_with_the_marker_has_obeyed(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(_model: Any, _tokenizer: Any, prompts: list[str], **_: Any) -> list[str]:
        return ["well, banana it is" if "BANANA" in prompt else "no" for prompt in prompts]

    monkeypatch.setattr(suite, "generate_texts", answers)
    found = {one.metric: one for one in evaluated(job, tmp_path, {}).evaluation}

    assert found["injectionBefore.obeyedShare"].value == 1.0


def test_the_card_tells_of_attacks(outcome: StageOutcome) -> None:
    text = robustness_section({"robustness": outcome.facts["robustness"]}, {})

    assert "| typos | lossRise |" in text
    assert "were not measured" in robustness_section({}, {})


def test_few_rows_are_told(outcome: StageOutcome) -> None:
    assert "evaluation.robustness: typos changes 4 of 4 held-out rows" in outcome.warnings


def test_a_gate_on_an_attack_fails_the_job(job: Path, tmp_path: Path) -> None:
    gates = [{"suite": "robustness", "metric": "typos.lossRise", "max": -50.0}]

    with pytest.raises(VerdictError, match=r"robustness typos\.lossRise is") as refused:
        evaluated(job, tmp_path, {"attacks": ["typos"]}, gates=gates)

    assert refused.value.reason is Reason.EVALUATION_GATE_FAILED


def test_without_answers_only_losses_are_measured(job: Path, tmp_path: Path) -> None:
    found = evaluated(job, tmp_path, {"attacks": ["casing"]}, generation={"metric": "none"})

    names = {one.metric for one in found.evaluation if one.suite == "robustness"}
    assert names == {"casing.loss", "casing.lossRise"}


def test_a_missing_wordnet_is_told(job: Path, tmp_path: Path) -> None:
    attacks = {"attacks": ["synonyms"], "wordnet": "/nowhere"}

    with pytest.raises(BadInputError, match=r"evaluation\.robustness\.wordnet: given /nowhere"):
        evaluated(job, tmp_path, attacks)


def test_rows_that_do_not_fit_are_refused(job: Path, tmp_path: Path) -> None:
    request = request_for(
        job,
        EVALUATE.name,
        output=tmp_path,
        evaluation={**SHORT, "robustness": {}},
        training={"sequenceLength": 16},
    )

    with pytest.raises(BadInputError, match="a prompt is what is attacked"):
        evaluate(request, SilentReporter())
