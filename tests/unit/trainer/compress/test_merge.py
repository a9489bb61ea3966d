"""Merging changes nothing but the number format, and says so if it does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tuned_job import make_tuned_job, request_for
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import COMPRESS, EVALUATE
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.compress.merge import refuse_changed, rounded_to_bf16, save_merged
from tunesmith_trainer.evaluate.log_likelihood import RowLosses, load_for_scoring
from tunesmith_trainer.models import load_tokenizer, load_tuned


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="module")
def merged(job: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged") / "model"
    request = request_for(job, COMPRESS.name, output=folder.parent)
    model = load_tuned(request, dtype=torch.float32)
    save_merged(model, folder, tokenizer_folder=job / "model")
    return folder


def with_evaluation(job: Path, output: Path, *, loss: float) -> StageRequest:
    request = request_for(job, COMPRESS.name, output=output)
    result = StageResult(
        stage=EVALUATE.name,
        key="0" * 64,
        attempt=1,
        outcome="Succeeded",
        reason="Succeeded",
        evaluation=[
            EvaluationResult(suite="heldOut", split="tuned", metric="loss", value=loss, n=2)
        ],
    )
    return request.model_copy(update={"inputs": {**request.inputs, EVALUATE.name: result}})


def test_the_merged_weights_are_bf16_safetensors(merged: Path) -> None:
    weights = load_file(merged / "model.safetensors")

    assert {each.dtype for each in weights.values()} == {torch.bfloat16}
    assert json.loads((merged / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_tied_embedding_is_written_once_and_stays_tied(merged: Path) -> None:
    weights = load_file(merged / "model.safetensors")
    model = load_for_scoring(merged)

    assert "lm_head.weight" not in weights
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_the_merged_model_answers_as_the_adapted_one_but_for_rounding(
    job: Path, merged: Path, tmp_path: Path
) -> None:
    ids = torch.arange(20)[None]
    with torch.no_grad():
        adapted = load_tuned(request_for(job, COMPRESS.name, output=tmp_path), dtype=torch.float32)(
            ids
        ).logits
        base = load_for_scoring(job / "model")(ids).logits
        found = load_for_scoring(merged)(ids).logits

    assert (found - adapted).abs().max() < 0.1 * (base - adapted).abs().max()


def test_the_tokenizer_is_copied_byte_for_byte(job: Path, merged: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (merged / name).read_bytes() == (job / "model" / name).read_bytes()
    assert load_tokenizer(merged).chat_template is not None


def test_merged_losses_like_those_of_evaluate_pass(job: Path, tmp_path: Path) -> None:
    losses = {"heldOut": RowLosses(sums=np.array([2.0, 4.0]), weights=np.ones(2))}

    refuse_changed(with_evaluation(job, tmp_path, loss=3.0001), losses)


def test_merged_losses_unlike_those_of_evaluate_are_refused(job: Path, tmp_path: Path) -> None:
    losses = {"heldOut": RowLosses(sums=np.array([2.0, 4.0]), weights=np.ones(2))}

    with pytest.raises(VerdictError, match=r"was 2\.9000 and is 3\.0000"):
        refuse_changed(with_evaluation(job, tmp_path, loss=2.9), losses)


def test_updates_smaller_than_the_steps_of_bf16_survive_the_cast_on_average() -> None:
    """Rounding to nearest would take all of them away."""
    before = torch.full((100_000,), 1.0)
    update = 0.1 * 2.0**-7

    after = rounded_to_bf16(before + update, generator=torch.Generator().manual_seed(0))

    assert torch.equal((before + update).bfloat16().float(), before)
    assert (after - before).mean().item() == pytest.approx(update, rel=0.05)


@given(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), st.integers(0, 1000))
def test_the_cast_gives_one_of_the_two_neighbours(value: float, seed: int) -> None:
    given_value = torch.tensor([value])

    found = rounded_to_bf16(given_value, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(found.bfloat16().float(), found)
    assert (found - given_value).abs() <= given_value.abs() * 2.0**-7 + 1e-38


def test_numbers_that_bf16_holds_are_left_alone() -> None:
    held = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).bfloat16().float()

    assert torch.equal(rounded_to_bf16(held, generator=torch.Generator().manual_seed(1)), held)
