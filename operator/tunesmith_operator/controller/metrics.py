"""What the operator measures about itself, one series for each controller.

The names are those of controller-runtime, so that dashboards and alerts made for those fit.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tunesmith_operator.controller.work_queue import Key, WorkQueue


class Metrics:
    """The metrics of one operator, in a registry of their own."""

    def __init__(self) -> None:
        # NB: prometheus_client's default registry is the process's: a second set of metrics in it,
        # as tests make one, is an error.
        self.registry = CollectorRegistry()
        self.depth = self._gauge("workqueue_depth", "Keys that wait.", "name")
        self.adds = self._counter("workqueue_adds", "Keys added.", "name")
        self.retries = self._counter("workqueue_retries", "Keys put back after a failure.", "name")
        self.leading = self._gauge(
            "leader_election_master_status", "1 for the replica that works.", "name"
        )
        self._reconciles = self._counter(
            "controller_runtime_reconcile", "Looks at an object.", "controller", "result"
        )
        self._errors = self._counter(
            "controller_runtime_reconcile_errors", "Looks at an object that failed.", "controller"
        )
        self._seconds = self._histogram(
            "controller_runtime_reconcile_time_seconds", "Time of one look.", "controller"
        )
        self._waited = self._histogram(
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

    def follow(self, queue: WorkQueue, kinds: Iterable[str]) -> None:
        """Read depth and work in progress of each kind off `queue` whenever somebody asks."""
        for kind in kinds:
            self._follow(queue, kind)

    def _follow(self, queue: WorkQueue, kind: str) -> None:
        name = controller_name(kind)
        self.depth.labels(name=name).set_function(lambda: queue.depth(kind))
        self._unfinished.labels(name=name).set_function(lambda: sum(queue.work_times(kind)))
        self._longest.labels(name=name).set_function(
            lambda: max(queue.work_times(kind), default=0.0)
        )

    def added(self, key: Key) -> None:
        """Count a key that was put into the queue."""
        self.adds.labels(name=controller_name(key.kind)).inc()

    def waited(self, key: Key, seconds: float) -> None:
        """Note how long a key was in its line."""
        self._waited.labels(name=controller_name(key.kind)).observe(seconds)

    def reconciled(self, key: Key, result: str, *, seconds: float) -> None:
        """Count one look at an object: `success`, `requeue_after` or `error`."""
        name = controller_name(key.kind)
        self._reconciles.labels(controller=name, result=result).inc()
        self._seconds.labels(controller=name).observe(seconds)
        self._worked.labels(name=name).observe(seconds)
        if result == "error":
            self._errors.labels(controller=name).inc()
            self.retries.labels(name=name).inc()

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(name, about, labels, registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)


def controller_name(kind: str) -> str:
    """What controller-runtime calls the controller of a kind."""
    return kind.lower()
