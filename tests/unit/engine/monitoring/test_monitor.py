"""Readings of replicas become promises, cost and traffic; what is told twice counts once."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from tunesmith_api.modeldeployment.monitoring_status import TrafficStatus
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import RevisionStatus
from tunesmith_engine.deployment.observations import Monitored
from tunesmith_engine.deployment.replica_report import ReadyReason, ReplicaReport
from tunesmith_engine.monitoring.drift_page import DriftPage
from tunesmith_engine.monitoring.memory import MonitoringMemory, read_memory
from tunesmith_engine.monitoring.monitor import Reading, monitored, place_behind, take_in
from tunesmith_engine.monitoring.replica_counters import promises, read_counters
from tunesmith_serving.tap.metrics import ReplicaMetrics

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
SPEC = ModelDeploymentSpec.model_validate(
    {
        "model": "helpdesk",
        "slo": {"availability": {"objective": 0.99}, "ttft": {"seconds": 1.5, "objective": 0.9}},
        "resources": {"gpusPerReplica": 2},
        "cost": {"pricePerAcceleratorHour": 3.0},
    }
)
STABLE = RevisionStatus(
    revision="0000aaaa", version="v1", digest="sha256:1", uri="file:///v1", since=NOW
)


class CountingDetector:
    """Counts the requests in sketches."""

    def observe(
        self,
        state: dict[str, Any] | None,
        blocks: Iterable[tuple[datetime, Mapping[str, Any]]],
        *,
        reference: dict[str, Any] | None,
    ) -> dict[str, Any]:
        assert reference == {"training": {}}
        told = list(blocks)
        assert [at for at, _ in told] == sorted(at for at, _ in told)
        before = state["requests"] if state else 0
        return {"requests": before + sum(sketch["numRequests"] for _, sketch in told)}

    def traffic(
        self,
        state: dict[str, Any] | None,
        *,
        version: str,
        reference: dict[str, Any] | None,  # noqa: ARG002 - as it is asked
    ) -> TrafficStatus:
        return TrafficStatus(version=version, requests=state["requests"] if state else 0)


class Engine:
    """A replica with the real metrics, and its ring of measured requests."""

    def __init__(self, name: str, *, revision: str = STABLE.revision) -> None:
        self.name = name
        self.revision = revision
        self.num_starts = 0
        self.start()

    def start(self) -> None:
        self.num_starts += 1
        self.registry = CollectorRegistry()
        self.metrics = ReplicaMetrics(models=["helpdesk"], version="v1", registry=self.registry)
        self.tokens = Counter("vllm:prompt_tokens", "", ["model_name"], registry=self.registry)
        self.uptime, self.blocks = 0.0, [1]

    def answer(self, number: int, *, bad: int = 0, ttft: float = 0.2) -> None:
        for index in range(number):
            outcome = "error" if index < bad else "complete"
            self.metrics.observe("helpdesk", outcome=outcome, ttft_seconds=ttft)  # type: ignore[arg-type]
        self.tokens.labels("helpdesk").inc(100 * number)
        self.blocks.append(number)

    def reading(self, memory: MonitoringMemory | None, *, is_whole: bool = True) -> Reading:
        instance = str(self.num_starts)
        after = place_behind(memory, self.name, instance=instance)
        report = ReplicaReport(
            revision=self.revision,
            instance=instance,
            ready=True,
            draining=False,
            reason=ReadyReason.READY,
            message="",
            running=0,
            accepted=0,
            quiet_seconds=0,
            uptime_seconds=self.uptime,
        )
        page = DriftPage.of(
            {
                "instance": instance,
                "next": len(self.blocks),
                "version": "v1",
                "blocks": [
                    {"seq": number, "ageSeconds": 1.0, "sketch": {"numRequests": count}}
                    for number, count in enumerate(self.blocks)
                    if number >= after
                ],
            }
        )
        text = generate_latest(self.registry).decode()
        return Reading(report, metrics=text, drift=[page]) if is_whole else Reading(report)


class Watcher:
    """Reads engines a minute after the other."""

    def __init__(self, *engines: Engine) -> None:
        self.engines = {engine.name: engine for engine in engines}
        self.memory: MonitoringMemory | None = None
        self.now = NOW
        self.stable = STABLE

    def read(self, *, seconds: float = 60.0, silent: str = "") -> Monitored:
        self.now += timedelta(seconds=seconds)
        for engine in self.engines.values():
            engine.uptime += seconds
        self.memory = take_in(
            self.memory,
            {
                name: engine.reading(self.memory)
                for name, engine in self.engines.items()
                if name != silent
            },
            replicas=set(self.engines),
            spec=SPEC,
            stable=self.stable,
            reference={"training": {}},
            detector=CountingDetector(),
            now=self.now,
        )
        # As it is kept.
        self.memory = read_memory(self.memory.to_json())
        assert self.memory is not None
        return monitored(
            self.memory,
            spec=SPEC,
            traffic=CountingDetector().traffic(
                self.memory.drift, version=self.stable.version, reference=None
            ),
            before=None,
            default_price=None,
            now=self.now,
        )


def test_promises_and_cost_are_those_of_all_replicas() -> None:
    one, other = Engine("a"), Engine("b", revision="0000bbbb")
    watcher = Watcher(one, other)
    watcher.read()
    one.answer(60, bad=3)
    other.answer(40, ttft=2.0)
    told = watcher.read()

    slos = {slo.name: slo for slo in told.slos}
    assert slos["availability"].burn_rate == pytest.approx(0.03 / 0.01)
    assert slos["ttft"].burn_rate == pytest.approx(0.4 / 0.1)
    assert not any(slo.burning for slo in slos.values())
    assert told.cost is not None
    # Two replicas of two accelerators for a minute.
    assert told.cost.accelerator_hours == pytest.approx(4 / 60, abs=1e-3)
    assert told.cost.per_million_tokens == pytest.approx(3 * 4 / 60 / 0.01)
    assert told.cost.per_request == pytest.approx(3 * 4 / 60 / 97, rel=1e-3)


def test_what_was_counted_before_anybody_looked_is_nobodys() -> None:
    engine = Engine("a")
    engine.answer(1000, bad=1000)
    told = Watcher(engine).read()

    assert told.slos[0].burn_rate is None


def test_a_restart_loses_nothing_that_was_read_and_invents_nothing() -> None:
    engine = Engine("a")
    watcher = Watcher(engine)
    watcher.read()
    engine.answer(50)
    watcher.read()
    engine.start()
    engine.answer(50, bad=10)
    told = watcher.read()

    assert told.slos[0].burn_rate == pytest.approx(0.1 / 0.01)
    assert told.traffic is not None
    # 1 and 50 of the first process; 1 and 50 of the second.
    assert told.traffic.requests == 102


def test_blocks_are_read_once_and_silence_is_no_reset() -> None:
    engine = Engine("a")
    watcher = Watcher(engine)
    for _ in range(3):
        watcher.read()
    watcher.read(silent="a")
    engine.answer(7)
    told = watcher.read()

    assert told.traffic is not None
    assert told.traffic.requests == 8
    assert told.slos[0].burn_rate == 0.0


def test_another_stable_begins_anew() -> None:
    first, second = Engine("a"), Engine("b", revision="0000bbbb")
    watcher = Watcher(first, second)
    first.answer(100)
    watcher.read()
    watcher.stable = STABLE.model_copy(update={"revision": "0000bbbb", "version": "v2"})
    second.answer(5)
    told = watcher.read()

    assert told.traffic is not None
    assert (told.traffic.version, told.traffic.requests) == ("v2", 6)


def test_replicas_that_are_gone_are_forgotten() -> None:
    engine = Engine("a")
    watcher = Watcher(engine, Engine("b"))
    watcher.read()
    del watcher.engines["b"]
    watcher.read()

    assert watcher.memory is not None
    assert set(watcher.memory.counters) == set(watcher.memory.places) == {"a"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resources": {"gpusPerReplica": 0}}, "no accelerators"),
        ({"cost": {}}, "no price"),
    ],
)
def test_a_cost_that_nobody_knows_is_not_invented(change: dict[str, Any], words: str) -> None:
    given = SPEC.model_dump(mode="json", by_alias=True, exclude_none=True)
    told = monitored(
        MonitoringMemory(),
        spec=ModelDeploymentSpec.model_validate(given | change),
        traffic=None,
        before=None,
        default_price=None,
        now=NOW,
    )

    assert told.cost is not None
    assert told.cost.per_million_tokens is None
    assert words in told.cost.message


@pytest.mark.parametrize(
    "text", ["", "# HELP x\n", 'tunesmith_requests_total{outcome="complete"} nan\n', "x{ 1\n\x00"]
)
def test_metrics_that_say_nothing_count_nothing(text: str) -> None:
    assert set(read_counters(text, promises(SPEC.slo)).values()) <= {0.0}


@pytest.mark.parametrize("text", [None, "", "{", '{"format": 2}', '{"tallies": 1}'])
def test_a_memory_that_cannot_be_read_is_none(text: str | None) -> None:
    assert read_memory(text) is None
