"""Everything that is told of a run after every step: progress, trackers, metrics.

`worker` hands it to the `loop`. What it tells is in the history, which the checkpoints keep, so
that losing an observer harms nothing.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tunesmith_engine.stages.configmap_reporter import is_in_cluster
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import StageError
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.loop import StepCallback
from tunesmith_trainer.train.metrics_exporter import TrainingMetrics, serve_metrics
from tunesmith_trainer.train.trackers.curve_tracking import curve_tracking


class Observers:
    """Callbacks as one; `warnings` are those of trackers, once the run is over."""

    def __init__(self, callbacks: list[StepCallback]) -> None:
        self._callbacks = callbacks
        self.warnings: list[str] = []

    def __call__(self, history: History, *, epoch: float) -> None:
        """Tell all of them."""
        for callback in self._callbacks:
            callback(history, epoch=epoch)


@contextmanager
def observers(
    request: StageRequest,
    *,
    config: TrainConfig,
    progress: StepCallback | None,
    is_first_here: bool,
) -> Iterator[Observers]:
    """The observers of one worker while it trains.

    `progress` is that of the first worker, who alone logs to trackers; the first one of each pod
    serves metrics.

    Raises:
        BadInputError: a secret of a tracker is missing.
    """
    with ExitStack() as stack:
        callbacks: list[StepCallback] = []
        if is_first_here:
            metrics = TrainingMetrics(is_first=progress is not None, planned_steps=config.num_steps)
            # In a pod nothing but the PodMonitor's port leads in; on a laptop nobody else shall.
            address = "0.0.0.0" if is_in_cluster(request.report) else "127.0.0.1"  # noqa: S104
            stack.enter_context(serve_metrics(metrics, address=address))
            callbacks.append(metrics)
        if progress is None:
            yield Observers(callbacks)
            return
        tracking = curve_tracking(request, config=config)
        told = Observers([progress, *callbacks, tracking])
        try:
            yield told
        except StageError:
            # Of an interrupted run, which goes on one day, nothing is said.
            tracking.close("failed")
            raise
        told.warnings = tracking.close("finished")
