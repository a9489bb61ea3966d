"""Trackers by their own libraries: a run that was killed has every step once, under one id."""

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
from prepare_stage import prepare_request
from small_models import make_tiny_model, small_model
from small_runs import a_loop, a_train_config, random_rows
from train_stage import a_train_stage
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.loop import StepCallback
from tunesmith_trainer.train.trackers.curve_tracking import curve_tracking

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

STEPS = 30
SPEC: dict[str, Any] = {
    "training": {
        "method": "full",
        "maxSteps": STEPS,
        "evaluateEverySteps": 10,
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


Tracked = tuple[Path, list[float]]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """A folder with a run in three trackers, killed at step 17, and the losses of its curve.

    What the trackers have by then is more than the newest checkpoint has, that of step 10.
    """
    folder = tmp_path_factory.mktemp("tracked")
    request = prepare_request(folder, model="file://model", **SPEC)
    config = a_train_config(**{name: SPEC[name] for name in ("training", "checkpoint")})
    checkpoints = Path(request.output) / "checkpoints"

    killed = curve_tracking(request, config=config)
    with pytest.raises(KeyboardInterrupt):
        _run(config, checkpoints, _killed_after(17, killed))
    # A thread cannot be killed, so the first half is told to have failed.
    for sender in killed._senders:
        sender.close("failed")

    resumed = curve_tracking(request, config=config)
    history = _run(config, checkpoints, resumed)
    assert resumed.close("finished") == []
    return folder, history.numbers("loss")


def test_tensorboard_has_every_step_once(tracked: Tracked) -> None:
    folder, losses = tracked
    events = EventAccumulator(str(folder / "artifacts" / "tensorboard"))
    events.Reload()

    told = events.Scalars("train/loss")
    assert [event.step for event in told] == [*range(1, STEPS + 1)]
    assert [event.value for event in told] == pytest.approx(losses, rel=1e-6)
    assert [event.step for event in events.Scalars("eval/loss")] == [0, 10, 20, 30]


def test_mlflow_has_one_finished_run_with_every_step_once(tracked: Tracked) -> None:
    folder, losses = tracked
    client, run = _mlflow_run(folder)
    told = client.get_metric_history(run.info.run_id, "train/loss")

    assert [metric.step for metric in told] == [*range(1, STEPS + 1)]
    assert [metric.value for metric in told] == losses
    evaluated = client.get_metric_history(run.info.run_id, "eval/loss")
    assert [metric.step for metric in evaluated] == [0, 10, 20, 30]
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.runName"] == "tiny"
    assert run.data.params["training.batch.size"] == "8"


def test_wandb_has_every_step_once_in_one_offline_run(tracked: Tracked) -> None:
    output = tracked[0] / "artifacts"
    (file,) = (output / "wandb").glob("offline-run-*/run-*.wandb")
    (known,) = (output / "checkpoints" / "trackers").glob("wandb.json")
    rows = [record.history for record in _wandb_records(file) if record.HasField("history")]

    assert [row.step.num for row in rows] == [*range(STEPS + 1)]
    assert file.stem.removeprefix("run-") in known.read_text()


def test_nothing_of_the_machine_is_in_the_runs_of_wandb(tracked: Tracked) -> None:
    """Neither what was printed nor where; its own logs, which it does not send, name paths."""
    (file,) = (tracked[0] / "artifacts" / "wandb").glob("offline-run-*/run-*.wandb")
    records = str(list(_wandb_records(file)))

    assert "host: " not in records
    assert str(tracked[0]) not in records
    assert "output_raw {" not in records


@pytest.mark.long
def test_so_it_is_of_a_stage_whose_processes_were_killed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stage = a_train_stage(
        tmp_path,
        model=make_tiny_model(tmp_path_factory.mktemp("model")),
        train=random_rows(24),
        validation=random_rows(6, seed=1),
        **{**SPEC, "training": {**SPEC["training"], "maxSteps": 2000}},
    )
    with stage.started() as process:
        wait_until(lambda: _mlflow_steps(tmp_path) > 10, what="steps in MLflow", timeout_s=300)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    wait_until(lambda: processes_of(tmp_path) == [], what="Ray to go", timeout_s=90)

    result = stage.run()

    assert result.outcome == "Succeeded", stage.log()[-4000:]
    assert result.resumed_from_step is not None
    assert {made.name for made in result.artifacts} == {"tuned", "curve", "tensorboard", "wandb"}
    assert not [warning for warning in result.warnings if "tracking" in warning]
    client, run = _mlflow_run(tmp_path)
    told = client.get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in told] == [*range(1, 2001)]
    assert run.info.status == "FINISHED"


def _run(config: TrainConfig, checkpoints: Path, on_step: StepCallback) -> History:
    return a_loop(small_model(), config=config, folder=checkpoints, on_step=on_step).run()


def _killed_after(step: int, tracking: StepCallback) -> StepCallback:
    def on_step(history: History, *, epoch: float) -> None:
        tracking(history, epoch=epoch)
        if history.step == step:
            raise KeyboardInterrupt

    return on_step


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
    """The records of W&B's file, which is a log of LevelDB.

    After a head of 7 bytes there are blocks of 32 KiB with parts of records, each with checksum,
    length and kind: whole 1, first 2, middle 3, last 4.
    """
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
