"""The best trial's weights, taken as they are: what training anew with its settings would make."""

from pathlib import Path
from typing import Any

import pytest
import torch

from small_models import make_tiny_model
from small_runs import random_rows
from train_stage import a_train_stage
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of, digest_tree
from tunesmith_engine.stages.trial_records import TrialRecord
from tunesmith_trainer.data.held_out_roles import load_rows_of_stage
from tunesmith_trainer.search.trial_run import run
from tunesmith_trainer.search.trial_store import TrialStore
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.taken_weights import WEIGHTS
from tunesmith_trainer.train.worker import Trained, train_share

RATE = "training.optimizer.learningRate"
SPEC: dict[str, Any] = {
    "training": {"maxSteps": 4, "evaluateEverySteps": 2, "batch": {"size": 4}, "precision": "fp32"},
    "search": {"parameters": [{"field": RATE, "values": [0.01]}], "refit": False},
}


def request_of(folder: Path, model: Path, **spec: Any) -> StageRequest:
    stage = a_train_stage(
        folder,
        model=model,
        train=random_rows(24),
        validation=random_rows(8, seed=1),
        **{**SPEC, **spec},
    )
    return StageRequest.model_validate_json((stage.folder / "request.json").read_text())


def trained_alone(request: StageRequest) -> Trained:
    Path(request.output).mkdir(exist_ok=True)
    group = WorkerGroup(rank=0, size=1, device=torch.device("cpu"))
    trained = train_share(request, group=group, probed="fp32", is_first_here=True)
    assert "history" in trained, trained
    return trained


def a_trial(folder: Path, request: StageRequest) -> StageResult:
    """The trial of the job's own settings, and what the search leaves of it."""
    store = TrialStore(folder, kept=folder / "checkpoints")
    store.write(TrialRecord(number=0, parameters={}, state="running"))
    prepared = load_rows_of_stage(request)
    of_trial = request.model_copy(update={"stage": "search", "output": str(store.folder(0))})
    end = run(of_trial, prepared, probed="fp32", tell=lambda _: None)
    assert end["kind"] == "completed", end
    store.keep_weights(0)
    return StageResult(
        stage="search",
        key="1" * 64,
        attempt=1,
        outcome="Succeeded",
        reason="Succeeded",
        artifacts=[artifact_of(WEIGHTS, store.weights(0))],
    )


def test_taken_weights_are_those_of_training_anew(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    taking = request_of(tmp_path / "taking", model)
    searched = a_trial(tmp_path / "search", taking)
    anew = request_of(tmp_path / "anew", model, search={**SPEC["search"], "refit": True})

    taken = trained_alone(
        taking.model_copy(update={"inputs": {**taking.inputs, "search": searched}})
    )
    trained = trained_alone(anew)

    assert digest_tree(Path(taking.output) / "tuned") == digest_tree(Path(anew.output) / "tuned")
    assert taken["history"]["best_sums"] == trained["history"]["best_sums"]
    assert taken["resumed_from"] is None


def test_weights_of_other_settings_are_refused_and_nothing_is_trained(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    taking = request_of(tmp_path / "taking", model)
    searched = a_trial(tmp_path / "search", taking)
    training = taking.spec.training.model_copy(update={"seed": 5})
    spec = taking.spec.model_copy(update={"training": training})
    changed = {"inputs": {**taking.inputs, "search": searched}, "spec": spec}
    group = WorkerGroup(rank=0, size=1, device=torch.device("cpu"))
    Path(taking.output).mkdir()

    refusal = train_share(
        taking.model_copy(update=changed), group=group, probed="fp32", is_first_here=True
    )

    assert "message" in refusal
    assert "set search.refit: true" in refusal["message"]
    assert not (Path(taking.output) / "tuned").exists()


def test_only_the_best_trial_keeps_its_weights(tmp_path: Path) -> None:
    store = TrialStore(tmp_path, kept=tmp_path / "checkpoints")
    for number in (0, 1):
        store.write(TrialRecord(number=number, parameters={}, state="running"))
        (store.folder(number) / "checkpoints" / "step-1").mkdir(parents=True)
        store.keep_weights(number)
        store.write(TrialRecord(number=number, parameters={}, state="completed"))
    store.drop_weights(but=1)

    assert [path.name for path in sorted((tmp_path / "checkpoints").glob("weights-*"))] == [
        "weights-0001"
    ]
    assert not store.folder(1).exists()


@pytest.mark.parametrize("kept_before", [True, False])
def test_weights_of_a_trial_that_ran_again_take_the_place_of_the_first(
    tmp_path: Path, *, kept_before: bool
) -> None:
    store = TrialStore(tmp_path, kept=tmp_path / "checkpoints")
    for step in (1, 2) if kept_before else (2,):
        store.write(TrialRecord(number=0, parameters={}, state="running"))
        (store.folder(0) / "checkpoints" / f"step-{step}").mkdir(parents=True)
        store.keep_weights(0)

    assert [path.name for path in (store.weights(0) / "checkpoints").iterdir()] == ["step-2"]
