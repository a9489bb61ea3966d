"""Trackers: every step once, whatever fails on the way, and no wait for a server."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from command import wait_until
from prepare_stage import prepare_request
from small_models import small_model
from small_runs import a_loop, a_train_config
from small_sources import write_secret
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.prepare.preflight import refuse_missing
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.trackers import required
from tunesmith_trainer.train.trackers.curve_tracking import CurveTracking
from tunesmith_trainer.train.trackers.rows import Ending, Row, Tracker, rows_of
from tunesmith_trainer.train.trackers.run_ids import RunIds
from tunesmith_trainer.train.trackers.sender import Sender
from tunesmith_trainer.train.trackers.tensorboard_events import TensorboardEvents

TRAINING = {
    "method": "full",
    "batch": {"size": 8},
    "maxSteps": 6,
    "evaluateEverySteps": 2,
}


def _sender(tracker: Tracker, *, name: str = "recorder") -> Sender:
    """One that is in a hurry."""
    return Sender(
        tracker,
        name=name,
        hide=lambda text: text.replace("hunter2", "…"),
        interval_s=0.01,
        retry_s=0.01,
    )


class Recorder:
    """A tracker that fails as often as it is told to, or does not answer."""

    def __init__(self, *, failures: int = 0, stuck: Event | None = None) -> None:
        self.failures = failures
        self.stuck = stuck
        self.rows: list[Row] = []
        self.ending: Ending | None = None

    def open(self) -> None:
        if self.stuck:
            self.stuck.wait(30)

    def log(self, rows: list[Row]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no route to the server, my key is hunter2")
        self.rows += rows

    def close(self, ending: Ending) -> None:
        self.ending = ending


def _run(folder: Path, tracking: Any, *, last_step: int | None = None) -> History:
    config = a_train_config(training=TRAINING, checkpoint={"everySteps": 2})
    return a_loop(
        small_model(), config=config, folder=folder, on_step=tracking, last_step=last_step
    ).run()


def _steps(events: Path, name: str) -> list[int]:
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    return [event.step for event in accumulator.Scalars(name)]


def test_a_row_has_all_numbers_of_its_step_by_the_names_of_transformers(tmp_path: Path) -> None:
    recorder = Recorder()
    tracking = CurveTracking([_sender(recorder)])
    history = _run(tmp_path, tracking)

    assert tracking.close("finished") == []

    assert [row.step for row in recorder.rows] == [*range(7)]
    assert recorder.rows == list(rows_of(history.points))
    assert recorder.ending == "finished"
    assert {"train/loss", "train/grad_norm", "train/learning_rate", "eval/loss"} <= set(
        recorder.rows[2].values
    )
    assert "eval/loss" not in recorder.rows[1].values


def test_what_a_tracker_missed_it_gets_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(failures=3)
    tracking = CurveTracking([_sender(recorder)])
    _run(tmp_path, tracking)
    wait_until(lambda: len(recorder.rows) == 7, what="the rows", timeout_s=20)

    assert tracking.close("finished") == []
    assert [row.step for row in recorder.rows] == [*range(7)]
    assert "no route to the server" in caplog.text
    assert "hunter2" not in caplog.text


def test_one_that_never_answers_ends_no_training_and_is_told() -> None:
    stuck = Event()
    broken, silent = Recorder(failures=999), Recorder(stuck=stuck)
    senders = [
        _sender(tracker, name=name) for name, tracker in (("broken", broken), ("silent", silent))
    ]
    for sender in senders:
        sender.put(Row(1, {"train/loss": 1.0}))

    told = [sender.close("failed", wait_s=0.3) for sender in senders]
    stuck.set()

    assert told[0] is not None
    assert told[0].startswith("tracking.broken has not all of the curve: ConnectionError: no route")
    assert told[1] == "tracking.silent has not all of the curve: it did not answer for 0 s"


def test_tensorboard_reads_every_step_once_after_a_resumed_run(tmp_path: Path) -> None:
    """The first attempt has logged more steps than its last checkpoint has."""
    events, checkpoints = tmp_path / "tensorboard", tmp_path / "checkpoints"

    def tracking() -> CurveTracking:
        tracker = TensorboardEvents(events, settings={"training.seed": "0"})
        return CurveTracking([_sender(tracker)])

    killed = tracking()
    with pytest.raises(KeyboardInterrupt):
        _run(checkpoints, _killed_after(3, killed))
    killed.close("failed")
    assert _steps(events, "train/loss") == [1, 2, 3]

    resumed = tracking()
    history = _run(checkpoints, resumed)
    resumed.close("finished")

    assert _steps(events, "train/loss") == [1, 2, 3, 4, 5, 6]
    assert _steps(events, "eval/loss") == [0, 2, 4, 6]
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    told = [event.value for event in accumulator.Scalars("train/loss")]
    assert told == pytest.approx(history.numbers("loss"), rel=1e-6)


def _killed_after(step: int, tracking: CurveTracking) -> Callable[..., None]:
    def on_step(history: History, *, epoch: float) -> None:
        tracking(history, epoch=epoch)
        if history.step == step:
            raise KeyboardInterrupt

    return on_step


def test_an_id_belongs_to_a_tracker_and_a_configuration(tmp_path: Path) -> None:
    ids = RunIds(tmp_path / "trackers", "sha256:a")

    assert ids.read("mlflow") is None
    ids.write("mlflow", "run-1")

    assert ids.read("mlflow") == "run-1"
    assert ids.read("wandb") is None
    assert RunIds(tmp_path / "trackers", "sha256:b").read("mlflow") is None


@pytest.mark.parametrize("name", required.PACKAGES)
def test_a_tracker_that_is_not_installed_is_refused_with_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {
        "tensorboard": True,
        "mlflow": {"trackingUri": "file://mlruns"},
        "wandb": {"mode": "offline"},
    }
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    request = prepare_request(tmp_path, model="file://model", tracking={name: asked[name]})

    with pytest.raises(BadInputError, match=rf"pip install 'tunesmith\[{name}\]'") as caught:
        refuse_missing(request)

    assert caught.value.reason == Reason.ENVIRONMENT_MISSING


@pytest.mark.parametrize(
    ("tracking", "keys", "missing"),
    [
        ({"wandb": {"secretRef": {"name": "keys"}}}, None, "secret 'keys' cannot be read"),
        ({"wandb": {"secretRef": {"name": "keys"}}}, {"KEY": "x"}, "no key WANDB_API_KEY"),
        (
            {"mlflow": {"trackingUri": "https://m.example.com", "secretRef": {"name": "keys"}}},
            {"KEY": "x"},
            "none of MLFLOW_TRACKING_TOKEN",
        ),
    ],
)
def test_a_key_that_is_missing_is_refused_before_training(
    tracking: dict[str, Any], keys: dict[str, str] | None, missing: str, tmp_path: Path
) -> None:
    request = prepare_request(tmp_path, model="file://model", tracking=tracking)
    if keys:
        write_secret(Path(request.secrets) / "keys", keys)

    with pytest.raises(BadInputError, match=missing) as caught:
        refuse_missing(request)

    assert caught.value.reason == Reason.SECRET_NOT_FOUND
