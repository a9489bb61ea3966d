"""The distill stage over a model of three layers: what it leaves, judges, and goes on from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recovered_job import (
    GENERAL_TEXT,
    STEPS,
    Killed,
    Killer,
    make_recovered_job,
    recovery_request,
    result_of,
)
from small_models import TINY_VOCABULARY
from tuned_job import SilentReporter, request_for
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import COMPRESS, DISTILL, EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome, StageRequest
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.compress import stage as compress_stage
from tunesmith_trainer.data.held_out_roles import load_rows_of_stage
from tunesmith_trainer.data.prepared import load_prepared
from tunesmith_trainer.distill.stage import distill
from tunesmith_trainer.models import KEPT_TOKENS, load_model, load_tokenizer, load_tuned


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recovered_job(tmp_path_factory.mktemp("tuned"))


def request_of(job: Path, output: Path, **prune: Any) -> StageRequest:
    recovery = {**STEPS, **prune.pop("recovery", {})}
    given = {"ratio": 0.34, "gate": {"minRecovery": 0.1}, **prune, "recovery": recovery}
    return recovery_request(job, DISTILL.name, output=output, compression={"prune": given})


def distilled(job: Path, output: Path, **prune: Any) -> StageOutcome:
    return distill(request_of(job, output, **prune), SilentReporter())


def losses(outcome: StageOutcome) -> dict[tuple[str, str], float]:
    return {(one.suite, one.split): one.value for one in outcome.evaluation if one.metric == "loss"}


@pytest.fixture(scope="module")
def outcome(job: Path, tmp_path_factory: pytest.TempPathFactory) -> StageOutcome:
    return distilled(job, tmp_path_factory.mktemp("distilled"))


def folder_of(outcome: StageOutcome) -> Path:
    (uri,) = [one.uri for one in outcome.artifacts if one.name == "distilled"]
    return Path(uri.removeprefix("file://"))


def test_a_smaller_model_with_its_tokenizer_is_left(job: Path, outcome: StageOutcome) -> None:
    folder = folder_of(outcome)

    model = load_model(folder, dtype=torch.float32)
    assert model.config.num_hidden_layers == 2
    assert model.config.use_cache
    assert load_tokenizer(folder).chat_template == load_tokenizer(job / "model").chat_template
    left = sorted(path.name for path in folder.parent.iterdir() if not path.name.startswith("."))
    assert left == [
        "cut.json", "distillation.json", "distilled", "memory.json", "packing.json",
        "recovery.jsonl",
    ]  # fmt: skip


def test_each_rung_is_measured_beside_the_tuned_model(outcome: StageOutcome) -> None:
    found = losses(outcome)

    assert set(found) == {
        (suite, split) for suite in ("heldOut", "general") for split in ("pruned", "distilled")
    }
    (kl,) = [one for one in outcome.evaluation if (one.metric, one.split) == ("kl", "distilled")]
    assert kl.low is not None
    assert kl.high is not None
    assert 0 < kl.low <= kl.value <= kl.high
    ladder: Any = outcome.facts["ladder"]
    assert [rung["model"] for rung in ladder] == ["tuned", "pruned", "distilled"]
    assert ladder[0]["parameters"] > ladder[1]["parameters"] == ladder[2]["parameters"]
    assert ladder[1]["bytes"] == 2 * ladder[1]["parameters"]
    assert ladder[0]["kl"] == 0.0
    base = {one.base for one in outcome.evaluation if one.metric == "loss"}
    assert base == set(ladder[0]["losses"].values())


def test_recovery_brings_the_model_nearer_to_its_teacher(outcome: StageOutcome) -> None:
    ladder: Any = outcome.facts["ladder"]

    assert ladder[2]["kl"] < ladder[1]["kl"]


def test_the_document_has_the_cut_and_the_curve_and_no_text(outcome: StageOutcome) -> None:
    (uri,) = [one.uri for one in outcome.artifacts if one.name == "distillation"]
    told = json.loads(Path(uri.removeprefix("file://")).read_text())

    assert told["cut"]["layers"] == [
        layer for layer in range(3) if layer not in told["removedLayers"]
    ]
    assert len(told["layerScores"]) == 3
    assert {point["kind"] for point in told["curve"]} >= {"heldOut", "general", "kl"}
    assert "printer" not in json.dumps(told)


@pytest.mark.parametrize(
    "prune",
    [
        {"axes": ["channels", "heads"], "ratio": 0.5, "recovery": {"objective": "reverseKl"}},
        {
            "importance": "loss",
            "recovery": {"objective": "jensenShannon", "temperature": 2.0, "maxSteps": 2},
        },
        {"recovery": {"logits": "sampled", "crossEntropyWeight": 0.1, "maxSteps": 2}},
        {"recovery": {"logits": "topK", "samples": 4, "maxSteps": 2}},
        {"recovery": {"objective": "crossEntropy", "method": "lora"}},
        {"maxParameters": 110_000, "ratio": None},
    ],
    ids=str,
)
def test_every_way_leaves_a_model_that_loads(
    job: Path, tmp_path: Path, prune: dict[str, Any]
) -> None:
    made = distilled(job, tmp_path, **prune)

    assert made.facts["accepted"]
    model = load_model(folder_of(made), dtype=torch.float32)
    ladder: Any = made.facts["ladder"]
    assert sum(one.numel() for one in model.parameters()) == ladder[2]["parameters"]


def test_what_loses_too_much_is_left_behind_with_a_warning(job: Path, tmp_path: Path) -> None:
    made = distilled(job, tmp_path, gate={"minRecovery": 1.0, "maxKl": 1e-6})

    assert not made.facts["accepted"]
    assert [one.name for one in made.artifacts] == ["distillation", "recoveryCurve"]
    (warning,) = [text for text in made.warnings if "unpruned" in text]
    assert "spec.compression.prune.gate.maxKl" in warning


def test_without_fallback_the_job_fails_with_its_numbers(job: Path, tmp_path: Path) -> None:
    with pytest.raises(VerdictError) as caught:
        distilled(job, tmp_path, gate={"maxKl": 1e-6, "minRecovery": 0.1, "fallback": "fail"})

    assert caught.value.reason is Reason.COMPRESSION_LOSS_EXCEEDED
    assert "set fallback: unpruned" in caught.value.message
    assert caught.value.findings is not None
    assert len(caught.value.findings.evaluation) == 10


def test_a_killed_recovery_goes_on_to_the_same_weights(
    job: Path, tmp_path: Path, outcome: StageOutcome
) -> None:
    request = request_of(job, tmp_path)
    with pytest.raises(Killed):
        distill(request, Killer())

    made = distill(request, SilentReporter())

    assert made.resumed_from_step in {1, 2}
    assert losses(made) == losses(outcome)


def test_a_model_that_diverges_names_the_rate_of_the_recovery(job: Path, tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match=r"compression\.prune\.recovery\.learningRate"):
        distilled(job, tmp_path, recovery={"learningRate": 1.0, "maxSteps": 40})


def test_a_cut_that_takes_nothing_is_refused(job: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"0\.1 of 3 layers takes none"):
        distilled(job, tmp_path, ratio=0.1)


def compress_request(job: Path, output: Path, outcome: StageOutcome) -> StageRequest:
    request = request_for(
        job,
        COMPRESS.name,
        output=output,
        compression={"quantize": {"scheme": "none"}, "prune": {}},
        evaluation={"generation": {"metric": "none"}, "generalText": GENERAL_TEXT},
        training={"sequenceLength": 256},
        verification={"prompts": 2, "maxNewTokens": 4},
    )
    tuned = EvaluationResult(suite="heldOut", split="tuned", metric="loss", value=1.25, n=4)
    outcomes = {EVALUATE.name: StageOutcome("", evaluation=[tuned]), DISTILL.name: outcome}
    results = {stage: result_of(stage, made) for stage, made in outcomes.items()}
    return request.model_copy(update={"inputs": {**request.inputs, **results}})


def test_compress_takes_the_recovered_model_and_tells_it_beside_the_tuned_one(
    job: Path, tmp_path: Path, outcome: StageOutcome
) -> None:
    made = compress_stage.compress(compress_request(job, tmp_path, outcome), SilentReporter())

    (held_out,) = [one for one in made.evaluation if (one.suite, one.metric) == ("heldOut", "loss")]
    assert held_out.value == pytest.approx(losses(outcome)["heldOut", "distilled"], rel=1e-2)
    assert held_out.base == 1.25
    shipped = load_model(tmp_path / "compressed", dtype=torch.float32)
    assert shipped.config.num_hidden_layers == 2


def test_tokens_that_no_row_has_go_and_later_stages_read_rows_in_those_that_stay(
    job: Path, tmp_path: Path
) -> None:
    before = load_prepared(request_of(job, tmp_path / "cut"))
    outcome = distilled(job, tmp_path / "cut", axes=["vocabulary"], ratio=None)

    folder = folder_of(outcome)
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    kept = np.load(folder / KEPT_TOKENS)
    assert model.config.vocab_size == len(kept) == len(tokenizer) < TINY_VOCABULARY
    assert model.config.num_hidden_layers == 3
    shape: Any = outcome.facts["shape"]
    assert (shape["before"]["tokens"], shape["after"]["tokens"]) == (TINY_VOCABULARY, len(kept))
    request = compress_request(job, tmp_path / "small", outcome)
    rows = load_rows_of_stage(request)
    assert kept[rows.train.input_ids].tolist() == before.train.input_ids.tolist()
    text = tokenizer.decode(rows.train.row(0)[0].tolist())
    assert text == load_tokenizer(job / "model").decode(before.train.row(0)[0].tolist())

    compress_stage.compress(request, SilentReporter())

    shipped = load_tokenizer(tmp_path / "small" / "compressed")
    assert shipped.get_vocab() == tokenizer.get_vocab()


def test_compress_refuses_weights_that_are_not_those_that_were_judged(
    job: Path, tmp_path: Path, outcome: StageOutcome
) -> None:
    results = [one.model_copy(update={"value": one.value + 1}) for one in outcome.evaluation]
    spoilt = StageOutcome("", artifacts=outcome.artifacts, evaluation=results)

    with pytest.raises(VerdictError, match="changed the model"):
        compress_stage.compress(compress_request(job, tmp_path, spoilt), SilentReporter())


def test_a_refused_model_is_not_what_later_stages_load(job: Path, tmp_path: Path) -> None:
    refused = StageOutcome("", artifacts=[], evaluation=[])

    model = load_tuned(compress_request(job, tmp_path, refused), dtype=torch.float32)

    assert model.config.num_hidden_layers == 3
