"""Two finished jobs that differ in a learning rate and in what each held-out row was scored."""

import json
from pathlib import Path

import numpy as np
import yaml

from job_folders import JobFolder, a_finished_job, key_of
from tunesmith_engine.stages.digests import artifact_of

NUM_ROWS = 60


def two_jobs(home: Path, *, gap: float = 0.05, num_shared: int = NUM_ROWS) -> tuple[str, str]:
    """Their names. The second's nats per target token are `gap` higher, with a little noise.

    Rows differ much more from each other than the models do on any of them.
    """
    random = np.random.default_rng(7)
    weights = random.integers(5, 60, NUM_ROWS)
    losses = random.gamma(3.0, 0.8, NUM_ROWS)
    noise = random.normal(0.0, 0.02, NUM_ROWS)
    rows = [f"row{index:02}" for index in range(NUM_ROWS)]
    first = a_finished_job(home, name="first")
    _score(first, rows, weights=weights, losses=losses)
    second = a_finished_job(home, name="second")
    _set_learning_rate(second, 0.0005)
    # In another order: rows are found by their digests.
    shared = [*rows[:num_shared], *(f"else{index}" for index in range(NUM_ROWS - num_shared))]
    _score(second, shared[::-1], weights=weights[::-1], losses=(losses + gap + noise)[::-1])
    return "first", "second"


def _set_learning_rate(job: JobFolder, rate: float) -> None:
    path = job.folder / "manifest.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["spec"]["training"] = {"optimizer": {"learningRate": rate}}
    path.write_text(yaml.safe_dump(manifest))
    resolved = {**job.status.resolved, "training.optimizer.learningRate": str(rate)}
    job.status = job.status.model_copy(update={"resolved": resolved})
    job.write()


def _score(job: JobFolder, rows: list[str], *, weights: np.ndarray, losses: np.ndarray) -> None:
    folder = job.folder / "stages/evaluate" / key_of("evaluate")[:16]
    record = {
        "suite": "heldOut",
        "metric": "loss",
        "rows": rows,
        "weights": weights.tolist(),
        "base": (weights * 4.0).tolist(),
        "tuned": (weights * losses).tolist(),
    }
    path = folder / "artifacts/row-scores.json"
    path.write_text(json.dumps([record]))
    result = job.results["evaluate"]
    loss = float((weights * losses).sum() / weights.sum())
    measured = [
        one.model_copy(
            update={"value": loss, "low": loss - 0.4, "high": loss + 0.4, "n": len(rows)}
        )
        if (one.suite, one.metric) == ("heldOut", "loss")
        else one
        for one in result.evaluation
    ]
    told = result.model_copy(
        update={
            "artifacts": [*result.artifacts, artifact_of("rowScores", path)],
            "evaluation": measured,
        }
    )
    (folder / "result.json").write_text(told.model_dump_json(by_alias=True))
