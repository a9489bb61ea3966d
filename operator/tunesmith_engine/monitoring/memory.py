"""What monitoring remembers of a deployment between looks, and across restarts of who looks.

A laptop keeps it in a file, a cluster in a ConfigMap. Numbers alone.
"""

from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from tunesmith_api.base import ApiModel
from tunesmith_engine.monitoring.replica_counters import ReplicaCounters
from tunesmith_engine.monitoring.tallies import Tally


class Place(ApiModel):
    """How far the traffic of one process has been read."""

    instance: str
    next: int = 0


class MonitoringMemory(ApiModel):
    """All of it; lost, it begins anew, and nothing else is.

    `drift` is the detector's state for `revision`. `counters` are the last reading of each replica
    by name, `tallies` what was counted, by the key of a promise or `cost`.
    """

    # What a later release adds is passed over, and goes with the next writing.
    model_config = ConfigDict(extra="ignore")

    format: Literal[1] = 1
    revision: str = ""
    drift: dict[str, Any] | None = None
    places: dict[str, Place] = Field(default_factory=dict)
    counters: dict[str, ReplicaCounters] = Field(default_factory=dict)
    tallies: dict[str, Tally] = Field(default_factory=dict)

    def to_json(self) -> str:
        """As it is stored."""
        return self.model_dump_json(by_alias=True, exclude_none=True)

    @property
    def counted(self) -> dict[str, object]:
        """What would be lost without it; empty before anything was counted.

        The last readings are none of it: they move with every look.
        """
        places = {name: place for name, place in self.places.items() if place.next}
        slots = {key: tally.slots for key, tally in self.tallies.items() if tally.slots}
        return {"places": places, "slots": slots} if places or slots else {}


def read_memory(text: str | bytes | None) -> MonitoringMemory | None:
    """What was stored; None if there is nothing, or nothing that can be read."""
    if text is None:
        return None
    try:
        return MonitoringMemory.model_validate_json(text)
    except ValidationError:
        return None
