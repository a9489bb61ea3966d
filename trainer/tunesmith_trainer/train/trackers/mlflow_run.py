"""A run of MLflow: on a server, or in a folder."""

import os
import time
from collections.abc import Mapping
from typing import Any, Final

from tunesmith_engine.sources.credentials import Secret
from tunesmith_trainer.train.trackers.rows import Ending, Row
from tunesmith_trainer.train.trackers.run_ids import RunIds

NAME: Final = "mlflow"
CREDENTIALS: Final = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)
# MLflow takes them from the environment alone. A server that is away is tried again by the sender.
_VARIABLES: Final = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
# Of one request, by MLflow's API.
_MOST_METRICS: Final = 1000
_STATUS: Final[Mapping[Ending, str]] = {"finished": "FINISHED", "failed": "FAILED"}


class MlflowRun:
    """The run `run_name` in an experiment; it is asked which step it has of each metric."""

    def __init__(
        self,
        *,
        tracking_uri: str,
        experiment: str,
        run_name: str,
        settings: Mapping[str, str],
        secret: Secret,
        run_ids: RunIds,
    ) -> None:
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._run_name = run_name
        self._settings = settings
        self._secret = secret
        self._run_ids = run_ids
        self._client: Any = None
        self._run_id = ""
        # The last step of each metric there; None where that has to be asked.
        self._logged: dict[str, int] | None = None

    def open(self) -> None:
        """Begin the run, or go on with it."""
        given = {name: self._secret.get(name) for name in CREDENTIALS}
        os.environ.update(_VARIABLES | {name: key for name, key in given.items() if key})
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=self._tracking_uri)
        known = self._run_ids.read(NAME)
        self._run_id = self._begun() if known is None else known
        self._client.update_run(self._run_id, status="RUNNING")

    def log(self, rows: list[Row]) -> None:
        """Log what the run has not."""
        from mlflow.entities import Metric

        if self._logged is None:
            self._logged = self._asked()
        now = int(time.time() * 1000)
        new = [
            Metric(name, value, now, row.step)
            for row in rows
            for name, value in row.values.items()
            if row.step > self._logged.get(name, -1)
        ]
        for first in range(0, len(new), _MOST_METRICS):
            metrics = new[first : first + _MOST_METRICS]
            logged, self._logged = self._logged, None
            # NB: if this fails, nobody knows what has arrived, and the run is asked again.
            self._client.log_batch(self._run_id, metrics=metrics)
            self._logged = logged | {metric.key: metric.step for metric in metrics}

    def close(self, ending: Ending) -> None:
        """End the run."""
        self._client.set_terminated(self._run_id, status=_STATUS[ending])

    def _begun(self) -> str:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(self._experiment)
        experiment_id = (
            self._client.create_experiment(self._experiment)
            if experiment is None
            else experiment.experiment_id
        )
        run_id: str = self._client.create_run(experiment_id, run_name=self._run_name).info.run_id
        self._run_ids.write(NAME, run_id)
        params = [Param(path, value) for path, value in sorted(self._settings.items())]
        self._client.log_batch(run_id, params=params)
        return run_id

    def _asked(self) -> dict[str, int]:
        names = self._client.get_run(self._run_id).data.metrics
        return {
            name: max(metric.step for metric in self._client.get_metric_history(self._run_id, name))
            for name in names
        }
