"""Counts of requests by the bins of their signals: small, mergeable, numbers alone.

A reference holds two, of training and of held-out rows; a replica hands out one for every block of
requests.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator

from tunesmith_api.base import ApiModel
from tunesmith_engine.drift.signals import SIGNALS, Bin

REFERENCE_FILE: Final = "reference-statistics.json"
NUM_BINS: Final = {signal.name: signal.num_bins for signal in SIGNALS}

# Two billion requests: a reference of such counts is still a small file.
Count = Annotated[int, Field(ge=0, le=2**31)]
Bins = Mapping[str, Bin]


class Sketch(ApiModel):
    """How many requests were in which bin of each signal.

    Attributes:
        version: of the signals and their bins; sketches of another cannot be compared.
        num_requests: all of them. A signal that was not observed in all has smaller counts.
        signals: counts by bin, of every signal that was observed at all.
    """

    version: Literal[1] = 1
    num_requests: Count = 0
    signals: dict[str, tuple[Count, ...]] = Field(default_factory=dict)

    @field_validator("signals", mode="before")
    @classmethod
    def _known(cls, signals: Any) -> Any:
        # A signal of a later release says nothing to this one.
        if not isinstance(signals, Mapping):
            return signals
        return {name: counts for name, counts in signals.items() if name in NUM_BINS}

    @field_validator("signals")
    @classmethod
    def _whole(cls, signals: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        for name, counts in signals.items():
            if len(counts) != NUM_BINS[name]:
                raise ValueError(f"{name} has {len(counts)} bins instead of {NUM_BINS[name]}")
        return signals

    @classmethod
    def of(cls, requests: Iterable[Bins]) -> Self:
        """The sketch of measured requests."""
        tally = Tally()
        for bins in requests:
            tally.add(bins)
        return cls(num_requests=tally.num_requests, signals=tally.signals)

    def merge(self, other: "Sketch") -> Self:
        """The sketch of the requests of both."""
        signals = dict(self.signals)
        for name, counts in other.signals.items():
            mine = signals.get(name)
            signals[name] = (
                counts if mine is None else tuple(map(sum, zip(mine, counts, strict=True)))
            )
        return self.model_copy(
            update={"num_requests": self.num_requests + other.num_requests, "signals": signals}
        )


class Tally:
    """Counts requests as they come."""

    def __init__(self) -> None:
        self.num_requests = 0
        self._counts: dict[str, list[int]] = {}

    def add(self, bins: Bins) -> None:
        """Count one request.

        Raises:
            LookupError: there is no such signal or no such bin.
        """
        self.num_requests += 1
        for name, number in bins.items():
            counts = self._counts.get(name)
            if counts is None:
                counts = self._counts[name] = [0] * NUM_BINS[name]
            for one in number if isinstance(number, tuple) else (number,):
                counts[one] += 1

    @property
    def signals(self) -> dict[str, tuple[int, ...]]:
        """The counts, as a `Sketch` has them."""
        return {name: tuple(counts) for name, counts in self._counts.items()}

    def sketch(self) -> Sketch:
        """What was counted so far."""
        return Sketch(num_requests=self.num_requests, signals=self.signals)


class Reference(ApiModel):
    """What a version was made from: `reference-statistics.json` in its folder.

    Attributes:
        version: of the file's form.
        model_version: whose statistics they are. NB: empty in the file, since the version is named
            after a digest of its files; whoever reads it fills it in.
        training: the rows that were learnt from.
        validation: the rows that were held out.
    """

    version: Literal[1] = 1
    model_version: Annotated[str, Field(max_length=253)] = ""
    training: Sketch
    validation: Sketch
