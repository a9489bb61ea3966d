"""The suites of fairness are measured again of the compressed model, and their gates judged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tuned_job import SilentReporter, make_tuned_job, request_for
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import COMPRESS, EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome, StageResult
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_serving.verify.reference_generations import read_reference
from tunesmith_trainer.compress import stage, trials
from tunesmith_trainer.compress.merge import copy_tokenizer
from tunesmith_trainer.evaluate.stage import evaluate

SWAPS = {
    "name": "swaps",
    "kind": "counterfactual",
    "groups": [
        {"name": "screens", "terms": ["screen", "mouse"]},
        {"name": "printers", "terms": ["printer", "password"]},
    ],
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(autouse=True)
def noisy_quantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    def quantize(merged: Path, target: Path, **_: Any) -> None:
        target.mkdir(exist_ok=True)
        (target / "config.json").write_bytes((merged / "config.json").read_bytes())
        torch.manual_seed(0)
        weights = {
            key: value + 0.05 * torch.randn_like(value)
            for key, value in load_file(merged / "model.safetensors").items()
        }
        save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
        copy_tokenizer(merged, target)

    monkeypatch.setattr(trials, "quantize_folder", quantize)


def compressed(job: Path, output: Path, *gates: dict[str, Any], **gate: Any) -> StageOutcome:
    evaluation = {
        "generation": {"maxNewTokens": 4},
        "bootstrap": {"resamples": 200},
        "fairness": {"suites": [SWAPS]},
    }
    request = request_for(
        job, EVALUATE.name, output=output / "evaluated", evaluation={**evaluation, "gates": []}
    )
    found = evaluate(request, SilentReporter())
    request = request_for(
        job,
        COMPRESS.name,
        output=output,
        evaluation={**evaluation, "gates": list(gates)},
        compression={
            "quantize": {"scheme": "W8A8"},
            "gate": {"minRecovery": 0.01, **gate},
        },
    )
    request.inputs[EVALUATE.name] = StageResult(
        stage=EVALUATE.name,
        key="0" * 64,
        attempt=1,
        outcome="Succeeded",
        reason=Reason.SUCCEEDED,
        evaluation=found.evaluation,
        facts=found.facts,
    )
    return stage.compress(request, SilentReporter())


def test_the_compressed_model_is_measured_beside_the_tuned_one(job: Path, tmp_path: Path) -> None:
    outcome = compressed(job, tmp_path)

    gap = next(one for one in outcome.evaluation if one.metric == "lossGap")
    assert gap.split == "compressed"
    assert gap.base is not None
    assert gap.base != gap.value
    record: Any = outcome.facts["fairness"]
    assert set(record["generalLoss"]) == {"base", "compressed"}


def test_a_scheme_that_breaks_a_gate_of_fairness_gives_way(job: Path, tmp_path: Path) -> None:
    outcome = compressed(job, tmp_path / "all")
    lost, kept = (
        next(one for one in outcome.evaluation if (one.metric, one.split) == ("gap", "compressed")),
        outcome.facts,
    )
    assert kept["scheme"] == "W8A8"
    tuned = lost.base
    assert tuned is not None
    # A bound between what the two models have, in whichever direction rounding went.
    middle = (tuned + lost.value) / 2
    bound = {"max": middle} if lost.value > tuned else {"min": middle}
    gate = {"suite": "swaps", "metric": "gap", **bound}

    widened = compressed(job, tmp_path / "widened", gate, fallback="widen")
    assert widened.facts["scheme"] == "none"
    assert any("swaps gap is" in warning for warning in widened.warnings)
    with pytest.raises(VerdictError, match=r"spec\.evaluation\.gates"):
        compressed(job, tmp_path / "failed", gate, fallback="fail")


def test_pairs_by_which_a_served_model_is_watched_are_left(job: Path, tmp_path: Path) -> None:
    compressed(job, tmp_path)

    reference = read_reference(next(tmp_path.rglob("reference.json")))

    assert {pair.suite for pair in reference.bias_pairs} == {"swaps"}
    for pair in reference.bias_pairs:
        assert pair.first.ids != pair.other.ids
        assert pair.released is None
