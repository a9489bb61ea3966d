"""Runs side by side on Ray Tune: which one is next, and which one ends, its `RunSource` says.

Ray Tune has the processes, their share of the machine, and what becomes of one that dies. It keeps
nothing: a source knows what has ended, and a stage that was killed asks it again.
"""

import json
import os
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tunesmith_engine.stages.errors import StageError
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.search.trial_run import END, RunEnd, RunPoint, RunTask, run_in_tune
from tunesmith_trainer.train.precision_probe import Precision
from tunesmith_trainer.train.ray_cluster import threads_per_worker

# What Ray Tune would print and write of its own; the stage reports, and keeps its own records.
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The report that ends a run has no measurement.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_MAX_LEN_IDENTIFIER": "40",
}


class RunSource(Protocol):
    """What is run, and what becomes of it; called from one thread."""

    def next_task(self) -> RunTask | None:
        """The next run, or None if there is none."""

    def is_over_at(self, number: int, point: RunPoint) -> bool:
        """Note a measurement of a run; whether it ends there."""

    def ended(self, number: int, end: RunEnd | None) -> None:
        """Note the end of a run; None of one that was ended, or whose process has died."""


def run_all(
    source: RunSource,
    *,
    prepared: Prepared,
    probed: Precision | None,
    parallel: int,
    gpus: int,
    folder: Path,
) -> None:
    """Run what `source` names, so many at a time, until it names no more; Ray is up.

    `folder` is a temporary one for Ray Tune's own files.

    Raises:
        StageError: the source has raised it.
    """
    os.environ.update(_SETTINGS)
    searcher = _Searcher(source)
    threads = threads_per_worker(parallel)
    trainable = tune.with_parameters(
        run_in_tune, prepared=prepared, probed=probed, num_threads=threads
    )
    # NB: less than a processor each, so that Ray, which counts whole ones, holds none of them back.
    share = {"cpu": min(1.0, (os.cpu_count() or 1) / parallel), "gpu": gpus / parallel}
    tune.Tuner(
        tune.with_resources(trainable, share),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_EarlyEnd(source),
            num_samples=-1,
            max_concurrent_trials=parallel,
            # Else each run would import torch anew.
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="runs",
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0),
            verbose=0,
        ),
    ).fit()
    if searcher.error is not None:
        raise searcher.error


class _Searcher(Searcher):
    """Ray Tune's view of a source."""

    def __init__(self, source: RunSource) -> None:
        super().__init__(metric="value", mode="min")
        self._source = source
        self._numbers: dict[str, int] = {}
        self.error: StageError | None = None

    def suggest(self, trial_id: str) -> Any:
        try:
            task = self._source.next_task()
        except StageError as error:
            # Ray Tune would wrap it; it is raised once the others have ended.
            self.error, task = error, None
        if task is None:
            return Searcher.FINISHED
        self._numbers[trial_id] = task["number"]
        return dict(task)

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002 - as Ray Tune calls it
    ) -> None:
        told = (result or {}).get(END)
        end: RunEnd | None = json.loads(told) if told and not error else None
        self._source.ended(self._numbers.pop(trial_id), end)

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search goes on from its own records")


class _EarlyEnd(FIFOScheduler):
    """Ends the runs that the source has seen enough of."""

    def __init__(self, source: RunSource) -> None:
        super().__init__()
        self._source = source

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        del tune_controller
        if END in result:
            return str(TrialScheduler.CONTINUE)
        point: Any = {name: result[name] for name in RunPoint.__annotations__}
        is_over = self._source.is_over_at(trial.config["number"], point)
        return str(TrialScheduler.STOP if is_over else TrialScheduler.CONTINUE)
