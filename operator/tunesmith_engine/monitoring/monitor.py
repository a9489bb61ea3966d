"""One reading of all replicas of a deployment, taken into its memory; and what that shows.

Pure: an executor asks the replicas, calls `take_in`, keeps the memory, and hands `monitored` to
`advance`. What replicas told twice, after a restart of whoever asks, counts once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from tunesmith_api.modeldeployment.monitoring_status import MonitoringStatus, TrafficStatus
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import RevisionStatus
from tunesmith_engine.deployment.observations import Monitored
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.monitoring.burn_rates import slo_statuses
from tunesmith_engine.monitoring.cost import cost_status
from tunesmith_engine.monitoring.drift_page import DriftPage
from tunesmith_engine.monitoring.memory import MonitoringMemory, Place
from tunesmith_engine.monitoring.replica_counters import (
    REQUESTS,
    TOKENS,
    UPTIME,
    ReplicaCounters,
    growth,
    promises,
    read_counters,
)
from tunesmith_engine.monitoring.tallies import Tally

# Seconds between two readings; the finest slot of a tally.
READ_S: Final = 60.0
COST: Final = "cost"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one replica told: its state, its metrics as text, pages of its traffic."""

    report: ReplicaReport
    metrics: str | None = None
    drift: Sequence[DriftPage] = ()


class Detector(Protocol):
    """Compares the traffic of a version with its reference; its states are JSON."""

    def observe(
        self,
        state: Json | None,
        blocks: Iterable[tuple[datetime, Mapping[str, Any]]],
        *,
        reference: Json | None,
    ) -> Json:
        """The state after blocks of requests, each with its time; None begins anew."""

    def traffic(self, state: Json | None, *, version: str, reference: Json | None) -> TrafficStatus:
        """What the state shows."""


def take_in(
    memory: MonitoringMemory | None,
    readings: Mapping[str, Reading],
    *,
    replicas: Collection[str],
    spec: ModelDeploymentSpec,
    stable: RevisionStatus | None,
    reference: Json | None,
    detector: Detector,
    now: datetime,
) -> MonitoringMemory:
    """The memory after a reading of those replicas that answered, by name, of all that there are.

    Traffic is that of `stable` alone, against its `reference`: another revision resets the
    detector. Promises and cost are those of all replicas.
    """
    # Without a memory nobody knows what of their counters was there before.
    is_first = memory is None
    memory = _of(memory or MonitoringMemory(), replicas)
    memory = _counted(memory, readings, spec, is_first=is_first, now=now)
    if stable is None:
        return memory
    if memory.revision != stable.revision:
        memory = memory.model_copy(
            update={"revision": stable.revision, "drift": None, "places": {}}
        )
    blocks, places = [], dict(memory.places)
    for name, reading in readings.items():
        if reading.report.revision != stable.revision:
            continue
        for page in reading.drift:
            places[name] = Place(instance=page.instance, next=page.next)
            blocks += [(now - timedelta(seconds=b.age_seconds), b.sketch) for b in page.blocks]
    # In order of time: those of several replicas are of one stream of requests.
    blocks.sort(key=lambda block: block[0])
    drift = detector.observe(memory.drift, blocks, reference=reference)
    return memory.model_copy(update={"drift": drift, "places": places})


def place_behind(memory: MonitoringMemory | None, replica: str, *, instance: str) -> int:
    """Behind which block the replica is to be asked; 0 for a process that is new."""
    place = memory.places.get(replica) if memory is not None else None
    return place.next if place is not None and place.instance == instance else 0


def monitored(
    memory: MonitoringMemory,
    *,
    spec: ModelDeploymentSpec,
    traffic: TrafficStatus | None,
    before: MonitoringStatus | None,
    default_price: float | None,
    now: datetime,
) -> Monitored:
    """What the memory shows; `before` is the status as it was stored last.

    `traffic` is what the detector made of it at the last reading, which takes milliseconds.
    """
    own_price = spec.cost.price_per_accelerator_hour
    return Monitored(
        traffic=traffic,
        slos=slo_statuses(
            promises(spec.slo), memory.tallies, before=before.slos if before else (), now=now
        ),
        cost=cost_status(
            memory.tallies.get(COST, Tally()),
            price=default_price if own_price is None else own_price,
            accelerators=spec.resources.gpus_per_replica,
            now=now,
        ),
    )


def _of(memory: MonitoringMemory, replicas: Collection[str]) -> MonitoringMemory:
    """The memory without replicas that are gone; one that is silent goes on where it was."""
    places = {name: place for name, place in memory.places.items() if name in replicas}
    counters = {name: last for name, last in memory.counters.items() if name in replicas}
    return memory.model_copy(update={"places": places, "counters": counters})


def _counted(
    memory: MonitoringMemory,
    readings: Mapping[str, Reading],
    spec: ModelDeploymentSpec,
    *,
    is_first: bool,
    now: datetime,
) -> MonitoringMemory:
    """The memory with what the counters of the replicas have grown by."""
    made = promises(spec.slo)
    counters, grown = dict(memory.counters), dict[str, float]()
    for name, reading in readings.items():
        if reading.metrics is None:
            continue
        values = read_counters(reading.metrics, made) | {UPTIME: reading.report.uptime_seconds}
        after = ReplicaCounters(instance=reading.report.instance, values=values)
        if not is_first:
            for key, amount in growth(memory.counters.get(name), after).items():
                grown[key] = grown.get(key, 0.0) + amount
        counters[name] = after
    tallies = {
        promise.key: memory.tallies.get(promise.key, Tally()).add(
            [grown.get(f"{promise.key}:{part}", 0.0) for part in ("all", "good")], now=now
        )
        for promise in made
    }
    held = grown.get(UPTIME, 0.0) * spec.resources.gpus_per_replica
    spent = [held, grown.get(TOKENS, 0.0), grown.get(REQUESTS, 0.0)]
    tallies[COST] = memory.tallies.get(COST, Tally()).add(spent, now=now)
    return memory.model_copy(update={"counters": counters, "tallies": tallies})
