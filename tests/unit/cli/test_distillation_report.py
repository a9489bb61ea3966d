"""The section about pruning: the ladder down to what ships, and the curve of the recovery."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from job_folders import a_finished_job, add_stage
from tunesmith_api.results import EvaluationResult
from tunesmith_cli.metrics import evaluation_table
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.report.page import render
from tunesmith_engine.stages.catalog import DISTILL
from tunesmith_engine.stages.digests import artifact_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def _rung(model: str, parameters: int, held_out: float, kl: float) -> dict[str, Any]:
    losses = {"heldOut": held_out, "general": held_out + 0.5}
    return {
        "model": model, "parameters": parameters, "bytes": 2 * parameters, "losses": losses,
        "kl": kl,
    }  # fmt: skip


FACTS: dict[str, Any] = {
    "accepted": True,
    "axes": ["layers"],
    "shape": {
        "before": {"layers": 30, "channels": 1536, "kvHeads": 3},
        "after": {"layers": 24, "channels": 1536, "kvHeads": 3},
    },
    "removedLayers": [20, 21, 22, 23, 24, 25],
    "ladder": [
        _rung("tuned", 134_515_008, 2.41, 0.0),
        _rung("pruned", 113_274_432, 4.9, 2.6),
        _rung("distilled", 113_274_432, 2.63, 0.21),
    ],
    "recovery": {"heldOut": 0.916, "general": 0.9},
    "gapRecovered": {"heldOut": 0.9116, "general": None},
    "minRecovery": 0.9,
    "objective": "forwardKl",
    "logits": "sampled",
    "numSteps": 120,
    "bestStep": 110,
    "tokens": 43_000,
    "seconds": 410.0,
}
RESULTS = [
    EvaluationResult(
        suite="heldOut", split=split, metric="loss", value=value, low=value - 0.1,
        high=value + 0.1, base=2.41, n=3,
    )
    for split, value in (("pruned", 4.9), ("distilled", 2.63))
]  # fmt: skip


def page(tmp_path: Path, **facts: Any) -> str:
    job = a_finished_job(tmp_path)
    curve = tmp_path / "recovery.jsonl"
    points = [{"step": step, "kind": "heldOut", "loss": 4.9 - step / 50} for step in (0, 60, 110)]
    curve.write_text("".join(json.dumps(point) + "\n" for point in points))
    add_stage(
        job,
        DISTILL.name,
        facts=FACTS | facts,
        evaluation=RESULTS,
        artifacts=[artifact_of("recoveryCurve", curve)],
    )
    return render(read_job_data(job.folder, job.status), now=NOW)


def test_the_way_down_stands_in_one_table_with_what_ships(tmp_path: Path) -> None:
    text = page(tmp_path)

    for wanted in (
        "Pruning and recovery", "24 of 30 layers stay.", "pruned and recovered", "113,274,432",
        "as shipped (W8A8)", "forward KL to the tuned model, by tokens that it drew",
        "91.2 % of the held-out loss that pruning added is gone again", "120 steps",
        "the weights of step 110 are kept",
    ):  # fmt: skip
        assert wanted in text, wanted


def test_a_refused_model_is_told_to_be_left_behind(tmp_path: Path) -> None:
    text = page(tmp_path, accepted=False)

    assert "The gate refused it: the job goes on unpruned." in text
    assert "as shipped (W8A8)" not in text


def test_status_has_a_column_for_each_model_and_the_base_is_no_other() -> None:
    tuned = EvaluationResult(
        suite="heldOut", split="tuned", metric="loss", value=2.41, base=3.8, n=3
    )

    head, row = evaluation_table([*RESULTS, tuned]).splitlines()[:2]

    assert [name for name in ("tuned", "as shipped", "pruned", "recovered") if name in head] == [
        "tuned", "as shipped", "pruned", "recovered",
    ]  # fmt: skip
    assert row.split("  ")[0] == "Held-out rows: loss"
    assert "3.8" in row
