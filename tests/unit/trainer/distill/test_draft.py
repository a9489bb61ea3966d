"""The draft stage over a model of three layers: what it leaves, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recovered_job import (
    STEPS,
    Killed,
    Killer,
    make_recovered_job,
    recovery_request,
    result_of,
)
from small_models import TINY_VOCABULARY
from tuned_job import SilentReporter
from tunesmith_engine.stages.catalog import DISTILL, DRAFT
from tunesmith_engine.stages.contracts import StageOutcome, StageRequest
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.distill.draft import draft
from tunesmith_trainer.distill.stage import distill
from tunesmith_trainer.models import load_model, load_tokenizer, stored_dtype
from tunesmith_trainer.prepare.preflight import refuse_unfit_model

PRUNE = {"ratio": 0.34, "gate": {"minRecovery": 0.1}, "recovery": STEPS}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recovered_job(tmp_path_factory.mktemp("tuned"))


def request_of(job: Path, output: Path, *, prune: Any = None, **drafted: Any) -> StageRequest:
    asked = {"ratio": 0.67, **drafted, "recovery": {**STEPS, **drafted.get("recovery", {})}}
    return recovery_request(
        job,
        DRAFT.name,
        output=output,
        compression={"prune": prune} if prune else {},
        serving={"speculative": {"method": "draftModel", "draft": asked}},
    )


def folder_of(outcome: StageOutcome, name: str = "draft") -> Path:
    return local_path(next(one for one in outcome.artifacts if one.name == name))


def digest_of(outcome: StageOutcome) -> str:
    return next(one.digest for one in outcome.artifacts if one.name == "draft")


@pytest.fixture(scope="module")
def outcome(job: Path, tmp_path_factory: pytest.TempPathFactory) -> StageOutcome:
    return draft(request_of(job, tmp_path_factory.mktemp("drafted")), SilentReporter())


def test_a_small_model_with_the_same_tokens_is_left_in_bf16(
    job: Path, outcome: StageOutcome
) -> None:
    folder = folder_of(outcome)

    model = load_model(folder, dtype=torch.float32)
    assert model.config.num_hidden_layers == 1
    assert model.config.vocab_size == TINY_VOCABULARY
    assert model.config.use_cache
    assert stored_dtype(folder) is torch.bfloat16
    assert load_tokenizer(folder).get_vocab() == load_tokenizer(job / "model").get_vocab()


def test_it_comes_nearer_to_the_tuned_model_and_no_gate_judges_it(outcome: StageOutcome) -> None:
    ladder: Any = outcome.facts["ladder"]

    assert ladder[0]["parameters"] > ladder[1]["parameters"] == ladder[2]["parameters"]
    assert ladder[2]["kl"] < ladder[1]["kl"]
    assert "accepted" not in outcome.facts
    # Its losses are none of the model that ships.
    assert outcome.evaluation == []
    resolved: Any = outcome.facts["resolved"]
    assert resolved == {"serving.speculative.draft.recovery.maxSteps": "8"}
    told = json.loads(folder_of(outcome, "drafting").read_text())
    assert "gate" not in told["settings"]
    assert "printer" not in json.dumps(told)


def test_of_a_pruned_job_it_is_cut_out_of_the_pruned_model_with_its_tokens(
    job: Path, tmp_path: Path
) -> None:
    prune = {**PRUNE, "axes": ["layers", "vocabulary"]}
    request = request_of(job, tmp_path / "draft", prune=prune, ratio=0.5)
    spec, output = request.spec, str(tmp_path / "distill")
    Path(output).mkdir()
    first = request.model_copy(update={"stage": DISTILL.name, "spec": spec, "output": output})
    made = distill(first, SilentReporter())
    inputs = {**request.inputs, DISTILL.name: result_of(DISTILL.name, made)}

    drafted = draft(request.model_copy(update={"inputs": inputs}), SilentReporter())

    small, smallest = (
        load_model(folder, dtype=torch.float32).config
        for folder in (folder_of(made, "distilled"), folder_of(drafted))
    )
    assert (small.num_hidden_layers, smallest.num_hidden_layers) == (2, 1)
    assert smallest.vocab_size == small.vocab_size < TINY_VOCABULARY
    ladder: Any = drafted.facts["ladder"]
    whole: Any = made.facts["ladder"]
    assert ladder[0]["parameters"] == whole[-1]["parameters"]


@pytest.mark.parametrize(
    ("drafted", "words"),
    [
        ({"ratio": 0.1}, r"serving\.speculative\.draft\.ratio: 0\.1 of 3 layers takes none"),
        (
            {"ratio": None, "maxParameters": 10**9},
            r"serving\.speculative\.draft\.maxParameters: .* no more than 1,000,000,000 as it is",
        ),
    ],
)
def test_a_draft_that_is_not_smaller_is_refused_before_anything_is_trained(
    job: Path, tmp_path: Path, drafted: dict[str, Any], words: str
) -> None:
    request = request_of(job, tmp_path, **drafted)

    with pytest.raises(BadInputError, match=words):
        refuse_unfit_model(request.spec, job / "model")
    with pytest.raises(BadInputError, match=words):
        draft(request, SilentReporter())


def test_a_draft_that_diverges_names_its_own_rate(job: Path, tmp_path: Path) -> None:
    field = r"serving\.speculative\.draft\.recovery\.learningRate"
    with pytest.raises(VerdictError, match=field):
        draft(request_of(job, tmp_path, recovery={"learningRate": 1.0, "maxSteps": 40}),
              SilentReporter())  # fmt: skip


def test_a_killed_draft_goes_on_to_the_same_weights(
    job: Path, tmp_path: Path, outcome: StageOutcome
) -> None:
    request = request_of(job, tmp_path)
    with pytest.raises(Killed):
        draft(request, Killer())

    made = draft(request, SilentReporter())

    assert made.resumed_from_step in {1, 2}
    assert digest_of(made) == digest_of(outcome)
