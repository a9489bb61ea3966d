"""One worker's training without Ray: what trackers, metrics and facts are told of it."""

import socket
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from small_models import make_tiny_model
from small_runs import ALONE, random_rows
from train_stage import a_train_stage
from tunesmith_engine.stages.contracts import METRICS_PORT, StageRequest
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.memory_plan import settled_request
from tunesmith_trainer.train.stage import _outcome
from tunesmith_trainer.train.trackers.curve_tracking import CurveTracking
from tunesmith_trainer.train.worker import _train

SPEC: dict[str, Any] = {
    "training": {
        "maxSteps": 4,
        "evaluateEverySteps": 2,
        "batch": {"size": 4},
        "precision": "fp32",
        "klToBase": {"weight": 0.1},
    },
    "tracking": {"tensorboard": True},
}


def test_a_run_is_told_to_trackers_to_prometheus_and_in_the_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_model(tmp_path / "model")
    rows = random_rows(8)
    stage = a_train_stage(
        tmp_path / "job",
        model=model,
        train=rows,
        validation=random_rows(3, seed=1),
        **SPEC,
    )
    request = StageRequest.model_validate_json((stage.folder / "request.json").read_text())
    stage.output.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv(METRICS_PORT, str(port))
    scraped = []

    told = CurveTracking.__call__

    def scrape_too(tracking: CurveTracking, history: History, *, epoch: float) -> None:
        """Trackers are the last to be told of a step; by then the server has it."""
        told(tracking, history, epoch=epoch)
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            scraped.append(answer.read().decode())

    monkeypatch.setattr(CurveTracking, "__call__", scrape_too)

    request = settled_request(request, precision="fp32")
    trained = _train(request, group=ALONE, probed="fp32", is_first_here=True, workspace=None)
    outcome = _outcome(request, trained, num_targets=rows.num_targets, probed=None)

    assert "tunesmith_train_step 4.0" in scraped[-1]
    assert 'tunesmith_train_loss_nats{kind="kl"}' in scraped[-1]
    assert "tunesmith_train_step 0.0" in scraped[0]
    events = EventAccumulator(str(stage.output / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Scalars("eval/kl_to_base")] == [0, 2, 4]
    assert [artifact.name for artifact in outcome.artifacts] == ["tuned", "curve", "tensorboard"]
    tokens = outcome.facts["tokens"]
    assert isinstance(tokens, dict)
    assert tokens["trained"] == 2 * rows.num_targets
    assert outcome.facts["mfu"] is None
    assert not [warning for warning in outcome.warnings if "tracking" in warning]
