"""A deployment with a canary as Prometheus sees it: two replicas and the operator, each on a port.

Replicas count with the metrics of `tunesmith_serving`, the operator's series come from its own
code, and vLLM's bear names that a test holds to its source.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.deployment.replica_report import BiasEvidence
from tunesmith_engine.monitoring.slo_rules import slo_rule_groups
from tunesmith_engine.monitoring.training_families import TRAINING_FAMILIES
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.metrics import JobMetrics
from tunesmith_operator.modeldeployment.metrics import DeploymentMetrics
from tunesmith_serving.tap.metrics import ReplicaMetrics
from tunesmith_serving.tap.probe_metrics import ProbedPrompt, ProbeMetrics

NAMESPACE = "ml"
KEY = Key("ModelDeployment", NAMESPACE, "helpdesk")
VLLM_GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
VLLM_COUNTERS = ("vllm:prompt_tokens", "vllm:generation_tokens")
VLLM_HISTOGRAMS = ("vllm:request_prompt_tokens", "vllm:request_generation_tokens")
_REVISION = {"digest": "sha256:0", "uri": "file:///models", "since": "2026-11-27T10:00:00Z"}
BIAS = BiasEvidence(
    suite="crows",
    pairs=8,
    released_nats=0.1,
    nats=0.3,
    growth_nats=0.2,
    low_nats=0.1,
    high_nats=0.3,
)
REVISIONS = {
    "stable": {"version": "v1", "revision": "0000aaaa", "weight": 75, "achievedWeight": 74.2},
    "candidate": {"version": "v2", "revision": "0000bbbb", "weight": 25, "achievedWeight": 25.8},
}


def slo_groups() -> list[dict[str, Any]]:
    """The rules of its SLO."""
    spec = deployment().spec
    return slo_rule_groups(spec, namespace=NAMESPACE, name="helpdesk", runbooks="docs/runbook")


def _status() -> ModelDeploymentStatus:
    status = deployment().status
    assert status is not None
    return status


def deployment() -> ModelDeployment:
    """It promises three things, names a price and judges a candidate."""
    evidence = {"metric": "ttftP90", "harm": 1.5, "promotion": 12, "stable": 900, "candidate": 300}
    status = {
        "phase": "Progressing",
        "stable": {**_REVISION, **REVISIONS["stable"], "replicas": 1, "readyReplicas": 1},
        "candidate": {
            **_REVISION,
            **REVISIONS["candidate"],
            "replicas": 1,
            "readyReplicas": 1,
            "strategy": "canary",
        },
        "lastVerdict": {
            "version": "v2",
            "revision": REVISIONS["candidate"]["revision"],
            "decision": "inconclusive",
            "cause": "NotEnoughEvidence",
            "time": datetime(2026, 11, 27, 10, tzinfo=UTC),
            "evidence": [evidence],
        },
        "monitoring": {
            "traffic": {
                "version": "v1",
                "thresholdLogE": 7.0,
                "signals": [{"signal": "promptTokens", "logE": 9.0, "effect": 0.2}],
                "drifted": ["promptTokens"],
            },
            "artifact": {"version": "v1"},
        },
    }
    spec = {
        "model": "helpdesk",
        "slo": {"availability": {}, "ttft": {"seconds": 2}, "itl": {"seconds": 0.08}},
        "cost": {"pricePerAcceleratorHour": 3},
        "resources": {"gpusPerReplica": 1},
    }
    return ModelDeployment.model_validate(
        {"metadata": {"name": "helpdesk"}, "spec": spec, "status": status}
    )


class Engine:
    """What vLLM counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels, about = ["model_name"], "vLLM's own."
        for name in VLLM_GAUGES:
            Gauge(name, about, labels, registry=registry).labels("helpdesk").set(1)
        self._tokens = [
            Counter(name, about, labels, registry=registry).labels("helpdesk")
            for name in VLLM_COUNTERS
        ]
        self._lengths = [
            Histogram(name, about, labels, registry=registry).labels("helpdesk")
            for name in VLLM_HISTOGRAMS
        ]

    def answer(self, num_requests: int) -> None:
        """Answer some requests of 200 tokens each."""
        for counter in self._tokens:
            counter.inc(200 * num_requests)
        for histogram in self._lengths:
            histogram.observe(200)


class TrainingWorker(Collector):
    """Every metric of a job that trains; the trainer's own exporter needs torch."""

    def __init__(self) -> None:
        self._steps = 0

    def train(self) -> None:
        """Do a step."""
        self._steps += 1

    def collect(self) -> Iterator[Metric]:
        for family in TRAINING_FAMILIES:
            kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.about, labels=family.labels)
            metric.add_metric(["train" for _ in family.labels], 100.0 * self._steps)
            yield metric


@dataclass(slots=True)
class MonitoredDeployment:
    """The processes that Prometheus scrapes: two replicas, the operator, and a pod that trains.

    `targets` are ports with their labels.
    """

    targets: dict[int, dict[str, str]] = field(default_factory=dict)
    _engines: list[Engine] = field(default_factory=list)
    _replicas: list[ReplicaMetrics] = field(default_factory=list)
    _servers: list[ThreadingHTTPServer] = field(default_factory=list)
    _operator: Metrics = field(default_factory=Metrics)
    _deployments: DeploymentMetrics = field(default_factory=lambda: DeploymentMetrics(2.5))
    _gpu_seconds: float = 0.0
    _jobs: JobMetrics = field(default_factory=JobMetrics)
    _worker: TrainingWorker = field(default_factory=TrainingWorker)

    def start(self) -> None:
        """Serve the metrics of both replicas, of the operator and of the worker."""
        for role, revision in REVISIONS.items():
            registry = CollectorRegistry()
            version = str(revision["version"])
            metrics = ReplicaMetrics(models=["helpdesk"], version=version, registry=registry)
            self._engines.append(Engine(registry))
            probes = ProbeMetrics(model="helpdesk", version=version, registry=registry)
            probes.note({0: ProbedPrompt(difference=0.1, loss=0.02, num_tokens=8)})
            probes.note_bias([BIAS])
            self._replicas.append(metrics)
            labels = {"deployment": "helpdesk", "revision": str(revision["revision"])}
            pod = {"namespace": NAMESPACE, "pod": f"helpdesk-{role}", "version": version}
            self._serve(registry, {**labels, **pod})
        for collector in (*self._jobs.collectors, *self._deployments.collectors):
            self._operator.registry.register(collector)
        self._deployments.read(KEY, deployment().spec)
        self._deployments.note(KEY, None, _status())
        self._operator.leading.labels(name="tunesmith-operator").set(1)
        # A queue is read in an event loop, which nothing here needs.
        self._operator.depth.labels(name="finetunejob").set(2)
        self._serve(self._operator.registry, {"namespace": "tunesmith", "pod": "tunesmith-0"})
        training = CollectorRegistry()
        training.register(self._worker)
        # As the chart's PodMonitor labels it.
        job = {"finetunejob": "helpdesk", "pod": "helpdesk--train-1"}
        self._serve(training, {"namespace": NAMESPACE, **job})

    def answer(self, num_requests: int) -> None:
        """Let every replica answer some requests, the operator look at a job, and one train."""
        self._worker.train()
        for engine in self._engines:
            engine.answer(num_requests)
        for replica in self._replicas:
            for _ in range(num_requests):
                replica.observe(
                    "helpdesk",
                    outcome="complete",
                    ttft_seconds=0.2,
                    itl_seconds=0.02,
                    prompt_tokens=200,
                    output_tokens=100,
                )
            replica.observe("helpdesk", outcome="error")
        job = Key("FineTuneJob", NAMESPACE, "helpdesk")
        self._operator.added(job)
        self._operator.waited(job, 0.01)
        for result in ("success", "error"):
            self._operator.reconciled(job, result, seconds=0.1)
        self._gpu_seconds += 8.0
        used = FineTuneJobStatus(gpu_seconds=self._gpu_seconds)
        before = FineTuneJobStatus(gpu_seconds=self._gpu_seconds - 8.0)
        self._jobs.note(job, "helpdesk", before=before, after=used)

    def stop(self) -> None:
        """End the servers."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _serve(self, registry: CollectorRegistry, labels: dict[str, str]) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, registry))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._servers.append(server)
        self.targets[server.server_port] = labels


class _Handler(BaseHTTPRequestHandler):
    """`/metrics` as vLLM and the operator have it.

    NB: as text, whatever is asked for. In OpenMetrics prometheus_client writes `vllm_num…`.
    """

    def __init__(self, registry: CollectorRegistry, *request: Any) -> None:
        self._registry = registry
        super().__init__(*request)

    def do_GET(self) -> None:
        """Answer with all series."""
        body = generate_latest(self._registry)
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""
