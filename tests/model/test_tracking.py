"""Trackers by their own libraries: a job that was killed has every step once, in one run."""

import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from command import processes_of, wait_until
from small_models import make_tiny_model
from small_runs import random_rows
from train_stage import TrainStage, a_train_stage

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

STEPS = 60
SPEC: dict[str, Any] = {
    "training": {
        "maxSteps": STEPS,
        "evaluateEverySteps": 20,
        "batch": {"size": 8, "microBatchSize": 2},
        "precision": "fp32",
    },
    "checkpoint": {"everySteps": 10},
    "tracking": {
        "tensorboard": True,
        "mlflow": {"trackingUri": "file://mlruns", "experiment": "printers"},
        "wandb": {"project": "printers", "mode": "offline"},
    },
}


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> TrainStage:
    """A stage that was killed once trackers had seen more than its newest checkpoint."""
    folder = tmp_path_factory.mktemp("tracked")
    stage = a_train_stage(
        folder,
        model=make_tiny_model(tmp_path_factory.mktemp("model")),
        train=random_rows(24),
        validation=random_rows(6, seed=1),
        **SPEC,
    )
    with stage.started() as process:
        wait_until(lambda: _mlflow_steps(folder) > 10, what="steps in MLflow", timeout_s=300)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    wait_until(lambda: processes_of(folder) == [], what="Ray to go", timeout_s=90)
    result = stage.run()
    assert result.outcome == "Succeeded", stage.log()[-4000:]
    assert result.resumed_from_step is not None
    assert result.warnings == [] or "tracking" not in str(result.warnings)
    return stage


def test_tensorboard_has_every_step_once(resumed: TrainStage) -> None:
    events = EventAccumulator(str(resumed.output / "tensorboard"))
    events.Reload()

    assert [event.step for event in events.Scalars("train/loss")] == [*range(1, STEPS + 1)]
    assert [event.step for event in events.Scalars("eval/loss")] == [0, 20, 40, 60]
    assert {a.name for a in resumed.result.artifacts} == {"tuned", "curve", "tensorboard", "wandb"}


def test_mlflow_has_one_finished_run_with_every_step_once(resumed: TrainStage) -> None:
    client, run = _mlflow_run(resumed.folder)
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    curve = [point["loss"] for point in resumed.curve() if point["kind"] == "train"]

    assert [metric.step for metric in losses] == [*range(1, STEPS + 1)]
    assert [metric.value for metric in losses] == curve
    assert [m.step for m in client.get_metric_history(run.info.run_id, "eval/loss")] == [
        0, 20, 40, 60,
    ]  # fmt: skip
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.runName"] == "job"
    assert run.data.params["training.batch.size"] == "8"


def test_wandb_has_every_step_once_in_one_offline_run(resumed: TrainStage) -> None:
    (file,) = (resumed.output / "wandb").glob("offline-run-*/run-*.wandb")
    (known,) = (resumed.output / "checkpoints" / "trackers").glob("wandb.json")
    rows = [record.history for record in _wandb_records(file) if record.HasField("history")]

    assert [row.step.num for row in rows] == [*range(STEPS + 1)]
    assert file.stem.removeprefix("run-") in known.read_text()


def test_nothing_of_the_machine_is_in_the_files_of_wandb(resumed: TrainStage) -> None:
    """Neither what was printed nor where; only its own logs name paths."""
    (file,) = (resumed.output / "wandb").glob("offline-run-*/run-*.wandb")
    records = str(list(_wandb_records(file)))

    assert os.uname().nodename not in records
    assert str(resumed.folder) not in records
    assert "output_raw {" not in records


def _mlflow_run(folder: Path) -> tuple[Any, Run]:
    client = MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("printers")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def _mlflow_steps(folder: Path) -> int:
    """How many steps the folder has, without the library's patience for half-written files."""
    files = list((folder / "mlruns").glob("*/*/metrics/train/loss"))
    return len(files[0].read_text().splitlines()) if files else 0


def _wandb_records(file: Path) -> Iterator[Any]:
    """W&B's file is a log of LevelDB: after a head of 7 bytes, blocks of 32 KiB with parts of
    records, each with checksum, length and kind: whole 1, first 2, middle 3, last 4.
    """  # noqa: D205
    data, place, record = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in {1, 4}:
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


@pytest.fixture(autouse=True)
def folders_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
