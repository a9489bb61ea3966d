"""What the operator measures about itself, named as controllers written in Go name it.

The names are those of controller-runtime, so that dashboards and alerts made for those fit.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
        self._seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Time of one look at a job.",
            ["controller"],
            registry=self.registry,
        )

    def reconciled(self, result: str, *, seconds: float) -> None:
        """Count one look at a job."""
        self._reconciles.labels(controller=CONTROLLER, result=result).inc()
        self._seconds.labels(controller=CONTROLLER).observe(seconds)
        if result == "error":
            self._errors.labels(controller=CONTROLLER).inc()

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)
