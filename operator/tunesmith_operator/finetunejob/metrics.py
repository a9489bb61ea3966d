"""What jobs use, counted for Prometheus: by namespace and model, since jobs come and go."""

from prometheus_client import Counter
from prometheus_client.registry import Collector

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_engine.monitoring.metric_families import JOB_GPU_SECONDS
from tunesmith_operator.controller.work_queue import Key


class JobMetrics:
    """The metrics of all jobs that this operator has looked at."""

    def __init__(self) -> None:
        self._gpu_seconds = Counter(
            JOB_GPU_SECONDS.name, JOB_GPU_SECONDS.about, JOB_GPU_SECONDS.labels, registry=None
        )

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """What a registry is to show."""
        return (self._gpu_seconds,)

    def note(
        self, key: Key, model: str, *, before: FineTuneJobStatus | None, after: FineTuneJobStatus
    ) -> None:
        """Count what the job used since the status `before`."""
        used = after.gpu_seconds - (before.gpu_seconds if before else 0.0)
        # A status that somebody emptied begins anew, and takes nothing back.
        self._gpu_seconds.labels(key.namespace, model).inc(max(0.0, used))
