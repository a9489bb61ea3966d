"""The faster type is found by trying, and a run keeps to it."""

from pathlib import Path

import torch

from small_models import make_tiny_model
from tunesmith_api.finetunejob.training import Training
from tunesmith_trainer.train.precision_probe import ProbedPrecision, probe, probed_precision


def test_the_faster_type_is_taken(tmp_path: Path) -> None:
    probed = probe(make_tiny_model(tmp_path), training=Training(), seconds=0.02)

    speeds = probed.tokens_per_second
    assert set(speeds) == {"bf16", "fp32"}
    assert speeds[probed.precision] == max(speeds.values()) > 0


def test_trying_draws_nothing_from_the_generator_of_the_run(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path)
    before = torch.get_rng_state()

    probe(model, training=Training(method="full"), seconds=0.01)

    assert torch.equal(torch.get_rng_state(), before)


def test_a_second_attempt_keeps_to_what_the_first_one_chose(tmp_path: Path) -> None:
    kept = ProbedPrecision(precision="bf16", tokens_per_second={"bf16": 1.0, "fp32": 2.0})
    (tmp_path / "precision.json").write_text(kept.model_dump_json())

    assert probed_precision(tmp_path, training=Training(), folder=tmp_path) == kept
