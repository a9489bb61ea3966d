"""The search as a process, with a real Ray Tune: trials, what a kill leaves, and what is chosen."""

from pathlib import Path
from typing import Any

import pytest

from command import wait_until
from small_models import make_tiny_model
from small_runs import random_rows
from train_stage import TrainStage, a_train_stage
from tunesmith_engine.stages.trial_records import TrialsFile

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

RATE = "training.optimizer.learningRate"
SEARCH: dict[str, Any] = {
    "training": {"maxSteps": 4, "evaluateEverySteps": 2, "batch": {"size": 4}, "packing": "none"},
    "search": {
        "method": "random",
        "parameters": [
            {"field": RATE, "minimum": 1e-3, "maximum": 1e-1, "log": True},
            {"field": "training.lora.rank", "values": [2, 4]},
        ],
        "budget": {"maxTrials": 4},
    },
}


def a_search(folder: Path, **spec: Any) -> TrainStage:
    return a_train_stage(
        folder,
        model=make_tiny_model(folder / "model"),
        train=random_rows(24),
        validation=random_rows(8, seed=1),
        name="search",
        **{**SEARCH, **spec},
    )


def trials_of(stage: TrainStage) -> TrialsFile:
    return TrialsFile.read(stage.output / "trials.json")


@pytest.mark.long
def test_a_killed_search_runs_no_trial_twice(tmp_path: Path) -> None:
    stage = a_search(tmp_path)
    with stage.started() as process:
        wait_until(
            lambda: any(stage.output.glob("checkpoints/trial-0001/*")),
            what="two trials",
            timeout_s=240.0,
        )
        process.kill()
        process.wait()
    before = {path: path.stat().st_mtime_ns for path in stage.output.glob("checkpoints/*/*")}

    result = stage.run(timeout_s=300.0)

    assert result.outcome == "Succeeded", stage.log()[-4000:]
    trials = trials_of(stage).trials
    assert [trial.state for trial in trials] == ["completed"] * 4
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    best: Any = result.facts["best"]
    lowest = min(trials, key=lambda trial: trial.objectives["heldOutLoss"])
    assert best["number"] == lowest.number
    assert best["parameters"] == lowest.parameters
    assert best["generalLossRise"] == lowest.general_loss_rise
    assert result.facts["heldOutRows"] == {"choosing": 4, "scored": 4}


def test_folds_are_measured_and_say_how_long_to_train(tmp_path: Path) -> None:
    stage = a_train_stage(
        tmp_path,
        model=make_tiny_model(tmp_path / "model"),
        train=random_rows(24),
        validation=random_rows(8, seed=1),
        name="crossval",
        training=SEARCH["training"],
        crossValidation={"folds": 3},
    )

    result = stage.run(timeout_s=300.0)

    assert result.outcome == "Succeeded", stage.log()[-4000:]
    folds: Any = result.facts["folds"]
    losses = [fold["heldOutLoss"] for fold in folds]
    interval: Any = result.facts["heldOutLoss"]
    assert [fold["rows"] for fold in folds] == [8, 8, 8]
    assert interval["mean"] == pytest.approx(sum(losses) / 3)
    assert interval["low"] < min(losses)
    # As many passes over three thirds as over two.
    assert result.facts["refitSteps"] == round(1.5 * float(str(result.facts["medianBestStep"])))


@pytest.mark.long
def test_train_takes_the_best_trials_weights_of_a_search_that_its_rows_ended(
    tmp_path: Path,
) -> None:
    # One rate alone: nothing is to be gained, and four trials are enough to see it.
    search = {
        **SEARCH["search"],
        "parameters": [{"field": RATE, "minimum": 0.01, "maximum": 0.0100001}],
        "terminator": {"minTrials": 4, "parts": 3},
        "budget": {"maxTrials": 9},
        "refit": False,
    }
    searching = a_search(tmp_path / "search", search=search)
    searched = searching.run(timeout_s=300.0)
    assert searched.outcome == "Succeeded", searching.log()[-4000:]
    training = a_train_stage(
        tmp_path / "train",
        model=tmp_path / "search" / "model",
        train=random_rows(24),
        validation=random_rows(8, seed=1),
        inputs={"search": searched},
        **{**SEARCH, "search": search},
    )

    trained = training.run(timeout_s=300.0)

    assert trained.outcome == "Succeeded", training.log()[-4000:]
    assert len(trials_of(searching).trials) == 4
    best: Any = searched.facts["best"]
    assert trained.facts["bestHeldOutLoss"] == best["objectives"]["heldOutLoss"]
    assert "best trial's weights are taken" in trained.message
    assert trained.resumed_from_step is None
