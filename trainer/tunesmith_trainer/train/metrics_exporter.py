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

from tunesmith_engine.monitoring import training_families as families
from tunesmith_engine.monitoring.metric_families import MetricFamily
from tunesmith_engine.stages.contracts import METRICS_PORT
from tunesmith_trainer.train.history import History

# What the curve calls the numbers of a step.
_OF_RUN: Final = (
    ("gradNorm", families.GRADIENT_NORM),
    ("learningRate", families.LEARNING_RATE),
    ("tokensPerSecond", families.TOKENS_PER_SECOND),
    ("mfu", families.MFU),
)
_OF_PROCESS: Final = (
    ("residentBytes", families.RESIDENT_MEMORY),
    ("peakDeviceBytes", families.DEVICE_MEMORY),
)

log = logging.getLogger(__name__)


class TrainingMetrics(Collector):
    """What was last told, as Prometheus reads it; a `StepCallback`."""

    def __init__(self, *, is_first: bool, planned_steps: int) -> None:
        self._is_first = is_first
        self._planned_steps = planned_steps
        self._told: list[Metric] = []

    def __call__(self, history: History, *, epoch: float) -> None:
        """Take note of the state after a step."""
        told = _of_last_step(history, _OF_PROCESS)
        if self._is_first:
            told += [
                *_of_last_step(history, _OF_RUN),
                _single(families.STEP, history.step),
                _single(families.PLANNED_STEPS, self._planned_steps),
                _single(families.EPOCH, epoch),
                _single(families.TOKENS, history.tokens),
                _single(families.TRAINED_TOKENS, history.trained_tokens),
                _single(families.PADDING, history.padding),
                _losses(history),
            ]
        # NB: replaced as a whole. The server reads in a thread of its own.
        self._told = told

    def collect(self) -> Iterator[Metric]:
        """Every metric with its value."""
        return iter(self._told)


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


def _of_last_step(history: History, named: tuple[tuple[str, MetricFamily], ...]) -> list[Metric]:
    last = history.latest("train") or {}
    return [
        _single(family, value)
        for name, family in named
        if isinstance(value := last.get(name), int | float)
    ]


def _losses(history: History) -> Metric:
    family = GaugeMetricFamily(families.LOSS.name, families.LOSS.about, labels=families.LOSS.labels)
    # NB: of those that are measured. To look for another goes through the whole curve.
    for kind in ("train", *history.units):
        last = history.latest(kind)
        if last is not None:
            family.add_metric([kind], float(str(last["loss"])))
    return family


def _single(family: MetricFamily, value: float) -> Metric:
    kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    return kind(family.name, family.about, value)
