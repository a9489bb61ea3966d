"""What the operator measures about itself, named as controllers written in Go name it.

The names are those of controller-runtime, so that dashboards and alerts made for those fit.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tunesmith_operator.controller.work_queue import WorkQueue

CONTROLLER: Final = "finetunejob"


class Measures:
    """The metrics of one operator, in a registry of their own."""

    def __init__(self) -> None:
        self.controller = CONTROLLER
        self.registry = CollectorRegistry()
        self.depth = self._gauge("workqueue_depth", "Keys that wait.", "name")
        self.adds = self._counter("workqueue_adds", "Keys added.", "name")
        self.retries = self._counter("workqueue_retries", "Keys put back after a failure.", "name")
        self.leading = self._gauge(
            "leader_election_master_status", "1 for the replica that works.", "name"
        )
        self._reconciles = self._counter(
            "controller_runtime_reconcile", "Looks at a job.", "controller", "result"
        )
        self._errors = self._counter(
            "controller_runtime_reconcile_errors", "Looks at a job that failed.", "controller"
        )
        self._seconds = self._histogram(
            "controller_runtime_reconcile_time_seconds", "Time of one look at a job.", "controller"
        )
        self.waited = self._histogram(
            "workqueue_queue_duration_seconds", "Time that a key waits for a worker.", "name"
        )
        self._worked = self._histogram(
            "workqueue_work_duration_seconds", "Time that a worker has a key.", "name"
        )
        self._unfinished = self._gauge(
            "workqueue_unfinished_work_seconds", "Time of all looks that go on.", "name"
        )
        self._longest = self._gauge(
            "workqueue_longest_running_processor_seconds", "Time of the longest of them.", "name"
        )

    def follow(self, queue: WorkQueue) -> None:
        """Read depth and work in progress off `queue` whenever somebody asks."""
        self.depth.labels(name=CONTROLLER).set_function(lambda: len(queue))
        self._unfinished.labels(name=CONTROLLER).set_function(lambda: sum(queue.work_times()))
        self._longest.labels(name=CONTROLLER).set_function(
            lambda: max(queue.work_times(), default=0.0)
        )

    def reconciled(self, result: str, *, seconds: float) -> None:
        """Count one look at a job."""
        self._reconciles.labels(controller=CONTROLLER, result=result).inc()
        self._seconds.labels(controller=CONTROLLER).observe(seconds)
        self._worked.labels(name=CONTROLLER).observe(seconds)
        if result == "error":
            self._errors.labels(controller=CONTROLLER).inc()

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(name, about, labels, registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)
