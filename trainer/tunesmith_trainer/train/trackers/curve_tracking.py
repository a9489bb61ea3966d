"""The trackers of a job, told of every step by the first worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tunesmith_api.uris import parse_uri
from tunesmith_engine.sources.credentials import NO_SECRET, Secret
from tunesmith_engine.stages.contracts import CHECKPOINTS, StageRequest
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.trackers import run_ids
from tunesmith_trainer.train.trackers.mlflow_run import MlflowRun
from tunesmith_trainer.train.trackers.required import mlflow_secret, wandb_secret
from tunesmith_trainer.train.trackers.rows import Ending, Tracker, rows_of
from tunesmith_trainer.train.trackers.run_ids import RunIds
from tunesmith_trainer.train.trackers.sender import Sender
from tunesmith_trainer.train.trackers.tensorboard_events import TensorboardEvents
from tunesmith_trainer.train.trackers.wandb_run import FOLDER, WandbRun

TENSORBOARD: Final = "tensorboard"


class CurveTracking:
    """Hands the points of the curve on, those of earlier attempts first."""

    def __init__(self, senders: list[Sender]) -> None:
        self._senders = senders
        self._num_told = 0

    def __call__(self, history: History, *, epoch: float) -> None:  # noqa: ARG002 - a StepCallback
        """Hand on what is new."""
        for row in rows_of(history.points[self._num_told :]):
            for sender in self._senders:
                sender.put(row)
        self._num_told = len(history.points)

    def close(self, ending: Ending) -> list[str]:
        """End the runs; warnings of those that have not the whole curve."""
        told = [sender.close(ending) for sender in self._senders]
        return [warning for warning in told if warning]


def curve_tracking(request: StageRequest, *, config: TrainConfig) -> CurveTracking:
    """The trackers that the job asks for.

    Raises:
        BadInputError: a secret is missing.
    """
    return CurveTracking(list(_senders(request, config=config)))


def tracker_folders(request: StageRequest) -> dict[str, Path]:
    """The artifacts that the job's trackers leave, by name."""
    tracking, output = request.spec.tracking, Path(request.output)
    is_offline = tracking.wandb is not None and tracking.wandb.mode == "offline"
    wanted = {TENSORBOARD: tracking.tensorboard, FOLDER: is_offline}
    return {
        name: output / name
        for name, is_wanted in wanted.items()
        if is_wanted and (output / name).is_dir()
    }


def _senders(request: StageRequest, *, config: TrainConfig) -> Iterator[Sender]:
    tracking, secrets, output = request.spec.tracking, Path(request.secrets), Path(request.output)
    settings = config.resolved()
    ids = RunIds(output / CHECKPOINTS / run_ids.FOLDER, config.digest())
    if tracking.tensorboard:
        yield _sender(TENSORBOARD, TensorboardEvents(output / TENSORBOARD, settings=settings))
    if tracking.mlflow:
        secret = mlflow_secret(tracking, secrets=secrets)
        run = MlflowRun(
            tracking_uri=_absolute(tracking.mlflow.tracking_uri, base=Path(request.base)),
            experiment=tracking.mlflow.experiment,
            run_name=request.job,
            settings=settings,
            secret=secret,
            run_ids=ids,
        )
        yield _sender("mlflow", run, secret=secret)
    if tracking.wandb:
        secret = wandb_secret(tracking, secrets=secrets)
        yield _sender(
            "wandb",
            WandbRun(
                tracking.wandb,
                folder=output,
                run_name=request.job,
                settings=settings,
                secret=secret,
                run_ids=ids,
            ),
            secret=secret,
        )


def _sender(name: str, tracker: Tracker, *, secret: Secret = NO_SECRET) -> Sender:
    def hide(text: str) -> str:
        for value in secret.values.values():
            text = text.replace(value, "…")
        return text

    return Sender(tracker, name=name, hide=hide)


def _absolute(uri: str, *, base: Path) -> str:
    """A folder's URI with the whole path: relative ones start at the manifest's folder."""
    if not uri.startswith("file://"):
        return uri
    return (base / Path(parse_uri(uri).path).expanduser()).resolve().as_uri()
