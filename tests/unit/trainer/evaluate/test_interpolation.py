"""Weights between two models, and the knee of the way from one to the other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tuned_job import SilentReporter, make_tuned_job, request_for
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_trainer.evaluate.interpolation import Sweep, SweptPoint, knee_of, sweep
from tunesmith_trainer.evaluate.stage import evaluate

BASE = SweptPoint(alpha=0.0, held_out=3.0, general=2.0)
TUNED = SweptPoint(alpha=1.0, held_out=1.0, general=3.0)


def test_the_knee_keeps_most_of_the_task_for_least_of_the_forgetting() -> None:
    points = [
        BASE,
        SweptPoint(alpha=0.25, held_out=2.2, general=2.05),
        SweptPoint(alpha=0.5, held_out=1.4, general=2.2),
        SweptPoint(alpha=0.75, held_out=1.1, general=2.6),
        TUNED,
    ]

    knee = knee_of(points)

    assert knee == points[2]
    said = Sweep(points=tuple(points), knee=knee).conclusion()
    assert "80% of the gain" in said
    assert "80% of the forgetting saved" in said


@pytest.mark.parametrize(
    "tuned",
    [
        SweptPoint(alpha=1.0, held_out=3.5, general=3.0),
        SweptPoint(alpha=1.0, held_out=1.0, general=1.9),
    ],
    ids=["nothing learnt", "nothing forgotten"],
)
def test_without_gain_or_without_forgetting_there_is_no_knee(tuned: SweptPoint) -> None:
    assert knee_of([BASE, SweptPoint(alpha=0.5, held_out=2.0, general=2.1), tuned]) is None


def test_a_straight_way_has_no_knee() -> None:
    assert knee_of([BASE, SweptPoint(alpha=0.5, held_out=2.0, general=2.5), TUNED]) is None


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_weights_are_those_between_base_and_tuned(tmp_path: Path, method: str) -> None:
    job = make_tuned_job(tmp_path, scale=0.5, method=method)
    ids = torch.tensor([[1, 2, 3, 4]])
    logits: dict[float, torch.Tensor] = {}

    def measure(alpha: float, model: PreTrainedModel) -> SweptPoint:
        with torch.no_grad():
            logits[alpha] = model(input_ids=ids).logits.clone()
        return SweptPoint(alpha=alpha, held_out=0.0, general=0.0)

    sweep(job / "model", job / "tuned", num_points=3, ends=(BASE, TUNED), measure=measure)

    assert list(logits) == [0.25, 0.5, 0.75]
    for alpha, of_sweep in logits.items():
        torch.testing.assert_close(of_sweep, _logits_at(job, alpha, ids), rtol=1e-4, atol=1e-5)


def test_the_sweep_of_the_stage_ends_at_the_two_models(job: Path, tmp_path: Path) -> None:
    request = request_for(
        job,
        EVALUATE.name,
        output=tmp_path / "out",
        evaluation={
            "generation": {"metric": "none"},
            "gates": [],
            "bootstrap": {"resamples": 100},
            "interpolation": {"points": 1},
        },
    )

    outcome = evaluate(request, SilentReporter())

    swept: Any = outcome.facts["interpolation"]
    points = swept["points"]
    losses = {number.suite: number for number in outcome.evaluation if number.metric == "loss"}
    assert [point["alpha"] for point in points] == [0.0, 0.5, 1.0]
    assert points[0]["heldOut"] == pytest.approx(losses["heldOut"].base)
    assert points[2]["general"] == pytest.approx(losses["general"].value)
    assert min(points[0]["heldOut"], points[2]["heldOut"]) - 0.5 < points[1]["heldOut"]


def _logits_at(job: Path, alpha: float, ids: torch.Tensor) -> torch.Tensor:
    from peft import PeftModel

    from tunesmith_trainer.models import ADAPTER_SETTINGS, load_model

    base = load_model(job / "model", dtype=torch.float32)
    if (job / "tuned" / ADAPTER_SETTINGS).is_file():
        tuned = PeftModel.from_pretrained(
            load_model(job / "model", dtype=torch.float32), job / "tuned"
        ).merge_and_unload()
    else:
        tuned = load_model(job / "tuned", dtype=torch.float32)
    others = dict(tuned.named_parameters())
    with torch.no_grad():
        for name, weight in base.named_parameters():
            weight.copy_((1 - alpha) * weight + alpha * others[name])
        logits: torch.Tensor = base(input_ids=ids).logits
    return logits
