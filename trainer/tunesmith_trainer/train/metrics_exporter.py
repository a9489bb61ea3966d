"""Training's metrics for Prometheus, on a port of every pod that trains.

The first worker tells of the run; every other one that has a pod of its own, of its memory alone.
Labels are kinds of losses and nothing else: the PodMonitor adds job and namespace.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tunesmith_engine.stages.contracts import METRICS_PORT
from tunesmith_trainer.train.history import History

Families = list[Metric]

log = logging.getLogger(__name__)

# Of the last step: what the curve calls it, and what Prometheus does.
_OF_STEP: Final = (
    ("gradNorm", "tunesmith_train_gradient_norm", "Norm of the gradient before clipping."),
    ("learningRate", "tunesmith_train_learning_rate", "Learning rate of the last step."),
    ("tokensPerSecond", "tunesmith_train_tokens_per_second", "Real tokens of the last step."),
    ("mfu", "tunesmith_train_mfu_ratio", "Model FLOPs utilization, where the peak is known."),
)
_OF_PROCESS: Final = "tunesmith_train_resident_memory_bytes"


class TrainingMetrics(Collector):
    """What was last told, as Prometheus reads it; a `StepCallback`."""

    def __init__(self, *, is_first: bool, planned_steps: int) -> None:
        self._is_first = is_first
        self._planned_steps = planned_steps
        self._families: Families = []

    def __call__(self, history: History, *, epoch: float) -> None:
        """Take note of the state after a step."""
        families = _memory(history)
        if self._is_first:
            families += [
                _gauge("tunesmith_train_step", "Optimizer steps done.", history.step),
                _gauge("tunesmith_train_planned_steps", "All steps.", self._planned_steps),
                _gauge("tunesmith_train_epoch", "How often the rows were read.", epoch),
                *_tokens(history),
                *_last_step(history),
                _losses(history),
            ]
        # NB: replaced as a whole. The server reads in a thread of its own.
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """The families."""
        return iter(self._families)


@contextmanager
def serve_metrics(metrics: TrainingMetrics, *, address: str) -> Iterator[None]:
    """Answer on the port that the environment names, if it does, for as long as this lasts."""
    port = os.environ.get(METRICS_PORT)
    if port is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(int(port), addr=address, registry=registry)
    except OSError as error:
        # Whoever watches must not end what is watched.
        log.warning("metrics are not served on port %s: %s", port, error)
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _memory(history: History) -> Families:
    last = history.latest("train") or {}
    given = (
        (_OF_PROCESS, "Memory of the worker's process.", last.get("residentBytes")),
        (
            "tunesmith_train_device_memory_peak_bytes",
            "The most that tensors have held of the device.",
            last.get("peakDeviceBytes"),
        ),
    )
    return [_gauge(name, about, value) for name, about, value in given if isinstance(value, int)]


def _tokens(history: History) -> Families:
    given = (
        ("tunesmith_train_tokens", "Real tokens that were read.", history.tokens),
        ("tunesmith_train_trained_tokens", "Those that were targets.", history.trained_tokens),
        ("tunesmith_train_padding_tokens", "Places computed for nothing.", history.padding),
    )
    return [CounterMetricFamily(name, about, value) for name, about, value in given]


def _last_step(history: History) -> Families:
    last = history.latest("train") or {}
    return [
        _gauge(name, about, value)
        for field, name, about in _OF_STEP
        if isinstance(value := last.get(field), float)
    ]


def _losses(history: History) -> Metric:
    family = GaugeMetricFamily(
        "tunesmith_train_loss_nats",
        "The last loss of each kind: train, heldOut, trainSample, general, kl.",
        labels=["kind"],
    )
    kinds = dict.fromkeys(str(point["kind"]) for point in history.points)
    for kind in kinds:
        last = history.latest(kind)
        if last is not None:
            family.add_metric([kind], float(str(last["loss"])))
    return family


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value)
