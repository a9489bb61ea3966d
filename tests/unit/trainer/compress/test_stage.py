"""The compress stage but for llm-compressor, whose place a copy with noise takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tuned_job import SilentReporter, make_tuned_job, request_for
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import COMPRESS, EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome, StageRequest, StageResult
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.compress import stage, trials
from tunesmith_trainer.compress.merge import copy_tokenizer

NOISE = {"W4A16": 1.0, "W8A8": 0.3}
# A quantizer would make the files smaller: the merged model has this much and its own.
PADDING = {"W4A16": 16, "W8A8": 32}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(autouse=True)
def noisy_quantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    def quantize(merged: Path, target: Path, *, name: str, **_: Any) -> int | None:
        target.mkdir(exist_ok=True)
        (target / "config.json").write_bytes((merged / "config.json").read_bytes())
        torch.manual_seed(0)
        weights = {
            key: value + NOISE[name] * torch.randn_like(value)
            for key, value in load_file(merged / "model.safetensors").items()
        }
        save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
        copy_tokenizer(merged, target)
        (target / "padding").write_bytes(b"0" * PADDING[name])
        return 64 if name == "W4A16" else None

    monkeypatch.setattr(trials, "quantize_folder", quantize)


def compressed(
    job: Path,
    output: Path,
    *,
    scheme: str,
    metric: str = "rougeL",
    answered: float | None = None,
    **gate: Any,
) -> StageOutcome:
    """Run the stage; `answered` is the score that `evaluate` found for the tuned model."""
    request = request_for(
        job,
        COMPRESS.name,
        output=output,
        compression={"quantize": {"scheme": scheme}, "gate": gate},
        evaluation={"generation": {"metric": metric, "maxNewTokens": 4}},
        verification={"prompts": 2, "maxNewTokens": 4},
    )
    if answered is not None:
        request = request.model_copy(
            update={"inputs": {**request.inputs, EVALUATE.name: evaluated(answered)}}
        )
    return stage.compress(request, SilentReporter())


def evaluated(score: float) -> StageResult:
    found = EvaluationResult(suite="heldOut", split="tuned", metric="rougeL", value=score, n=4)
    return StageResult(
        stage=EVALUATE.name,
        key="0" * 64,
        attempt=1,
        outcome="Succeeded",
        reason=Reason.SUCCEEDED,
        evaluation=[found],
    )


def test_a_bound_on_the_divergence_is_kept_like_one_on_the_loss(job: Path, tmp_path: Path) -> None:
    plain = compressed(job, tmp_path / "plain", scheme="W8A8", minRecovery=0.01)
    # A pass and a file of many bytes, which only a bound is worth.
    assert "kl" not in plain.facts["tries"][0]  # type: ignore[index,operator]
    loose = compressed(job, tmp_path / "loose", scheme="W8A8", minRecovery=0.01, maxKl=100.0)
    assert tried(loose) == [("W8A8", True)]
    tries: Any = loose.facts["tries"]
    apart = tries[0]["kl"]
    assert apart > 0

    strict = compressed(job, tmp_path / "strict", scheme="W8A8", minRecovery=0.01, maxKl=apart / 2)

    assert tried(strict) == [("W8A8", False), ("none", True)]
    assert "(spec.compression.gate.maxKl)" in strict.warnings[0]


def test_of_a_ladder_all_are_measured_and_the_smallest_that_holds_ships(
    job: Path, tmp_path: Path
) -> None:
    outcome = laddered(job, tmp_path, minRecovery=0.01)

    assert tried(outcome) == [("W8A8", True), ("W4A16", True)]
    assert outcome.facts["scheme"] == "W4A16"
    tries: Any = outcome.facts["tries"]
    assert outcome.facts["compressedBytes"] == min(each["bytes"] for each in tries)
    assert all(each["kl"] >= 0 and each["losses"]["heldOut"] > 0 for each in tries)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compressed", "reference.json"]
    # The smaller of both, as it was judged: the noise of its own.
    assert (tmp_path / "compressed" / "padding").stat().st_size == PADDING["W4A16"]


def test_of_a_ladder_a_smaller_scheme_that_lost_too_much_is_left_behind(
    job: Path, tmp_path: Path
) -> None:
    loose: Any = laddered(job, tmp_path / "loose", minRecovery=0.01).facts["tries"]
    apart = {each["scheme"]: each["kl"] for each in loose}

    outcome = laddered(
        job, tmp_path / "strict", minRecovery=0.01, maxKl=(apart["W8A8"] + apart["W4A16"]) / 2
    )

    assert outcome.facts["scheme"] == "W8A8"
    assert (tmp_path / "strict" / "compressed" / "padding").stat().st_size == PADDING["W8A8"]
    held_out = next(each for each in outcome.evaluation if each.metric == "loss")
    assert held_out.value == pytest.approx(loose[0]["losses"]["heldOut"])


def test_of_a_ladder_of_which_nothing_holds_the_model_ships_as_it_is_or_not_at_all(
    job: Path, tmp_path: Path
) -> None:
    request = ladder_request(job, tmp_path / "widen", ["W4A16"], maxKl=1e-3)
    assert stage.compress(request, SilentReporter()).facts["scheme"] == "none"

    with pytest.raises(VerdictError, match=r"add wider schemes to compression\.ladder\.schemes"):
        stage.compress(
            ladder_request(job, tmp_path / "fail", ["W4A16"], maxKl=1e-3, fallback="fail"),
            SilentReporter(),
        )


def laddered(job: Path, output: Path, **gate: Any) -> StageOutcome:
    return stage.compress(ladder_request(job, output, ["W4A16"], **gate), SilentReporter())


def ladder_request(job: Path, output: Path, schemes: list[str], **gate: Any) -> StageRequest:
    return request_for(
        job,
        COMPRESS.name,
        output=output,
        compression={"ladder": {"schemes": schemes}, "gate": gate},
        evaluation={"generation": {"metric": "none"}},
        verification={"prompts": 2, "maxNewTokens": 4},
    )


def tried(outcome: StageOutcome) -> list[tuple[str, bool]]:
    tries: Any = outcome.facts["tries"]
    return [(each["scheme"], each["accepted"]) for each in tries]


def test_without_quantization_the_merged_model_ships_as_it_is(job: Path, tmp_path: Path) -> None:
    outcome = compressed(job, tmp_path, scheme="none")

    assert outcome.facts["scheme"] == "none"
    assert outcome.facts["mergedBytes"] == outcome.facts["compressedBytes"]
    assert tried(outcome) == [("none", True)]
    assert outcome.warnings == []
    assert [each.name for each in outcome.artifacts] == ["compressed", "reference"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compressed", "reference.json"]


def test_results_compare_the_compressed_model_with_the_tuned_one(job: Path, tmp_path: Path) -> None:
    outcome = compressed(job, tmp_path, scheme="none")

    assert {each.split for each in outcome.evaluation} == {"compressed"}
    assert {each.suite for each in outcome.evaluation} == {"heldOut", "general"}
    for each in outcome.evaluation:
        if each.metric in {"loss", "perplexity"}:
            assert each.value == pytest.approx(each.base, rel=0.01)


def test_the_answers_of_what_ships_are_scored_beside_those_of_the_tuned_model(
    job: Path, tmp_path: Path
) -> None:
    outcome = compressed(job, tmp_path, scheme="none", answered=0.25)

    (score,) = [each for each in outcome.evaluation if each.metric == "rougeL"]
    assert (score.suite, score.split, score.base, score.n) == ("heldOut", "compressed", 0.25, 4)
    assert score.low is not None
    assert score.high is not None
    assert 0 <= score.low <= score.value <= score.high <= 1


def test_a_job_that_wants_no_answers_scored_gets_none(job: Path, tmp_path: Path) -> None:
    outcome = compressed(job, tmp_path, scheme="none", metric="none")

    assert {each.metric for each in outcome.evaluation} == {"loss", "perplexity"}


def test_a_scheme_that_loses_too_much_gives_way_to_wider_ones_with_warnings(
    job: Path, tmp_path: Path
) -> None:
    outcome = compressed(job, tmp_path, scheme="W4A16")

    assert outcome.facts["asked"] == "W4A16"
    assert outcome.facts["scheme"] == "none"
    assert tried(outcome) == [("W4A16", False), ("W8A8", False), ("none", True)]
    assert any("W8A8 was tried instead" in each for each in outcome.warnings)
    assert any("none was tried instead" in each for each in outcome.warnings)
    assert outcome.facts["resolved"] == {}


def test_a_low_bound_lets_the_scheme_pass(job: Path, tmp_path: Path) -> None:
    outcome = compressed(job, tmp_path, scheme="W4A16", minRecovery=0.001)

    assert tried(outcome) == [("W4A16", True)]
    assert outcome.facts["resolved"] == {"compression.quantize.groupSize": 64}


def test_without_fallback_the_job_fails_with_its_numbers(job: Path, tmp_path: Path) -> None:
    with pytest.raises(VerdictError) as caught:
        compressed(job, tmp_path, scheme="W8A8", fallback="fail")

    assert caught.value.reason == Reason.COMPRESSION_LOSS_EXCEEDED
    assert "less than the bound of 0.99" in caught.value.message
    assert caught.value.findings is not None
    assert tried(caught.value.findings) == [("W8A8", False)]
    assert caught.value.findings.evaluation


def test_fp8_is_refused_before_any_work_where_there_is_no_gpu(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)

    with pytest.raises(BadInputError, match="FP8 runs on GPUs only"):
        compressed(job, tmp_path, scheme="FP8")

    assert list(tmp_path.iterdir()) == []


def test_the_reference_holds_answers_of_what_ships(job: Path, tmp_path: Path) -> None:
    outcome = compressed(job, tmp_path, scheme="none")

    reference = json.loads(local_path(outcome.artifacts[1]).read_text())
    kinds = [each["kind"] for each in reference["prompts"]]
    assert kinds.count("heldOut") == 2
    assert kinds.count("probe") >= 20
    assert all(len(each["answerIds"]) == len(each["logprobs"]) for each in reference["prompts"])


def test_a_second_attempt_overwrites_what_a_killed_one_left(job: Path, tmp_path: Path) -> None:
    (tmp_path / "compressed").mkdir()
    (tmp_path / "compressed" / "model-00001-of-00009.safetensors").write_bytes(b"half")

    compressed(job, tmp_path, scheme="none")

    assert not (tmp_path / "compressed" / "model-00001-of-00009.safetensors").exists()
