"""A replica's answer at /tunesmith/samples, as both executors read it and hand it to the merger."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.json_io import finite_number, whole_number
from tunesmith_engine.rollout.merge import Page
from tunesmith_engine.rollout.samples import Arm

# Samples have some 300 characters: at 2,000 an answer stays below a megabyte.
MAX_SAMPLES_OF_PAGE: Final = 2000
# For one look at one replica. A reader that was away for long reads the rest at the next look.
MAX_PAGES: Final = 5


@dataclass(frozen=True, slots=True)
class RingPage:
    """One answer; `read_at` is when it was there, by the reader's monotonic clock."""

    instance: str
    next: int
    dropped: int
    watermark_seconds: float
    samples: tuple[Mapping[str, Any], ...]
    read_at: float

    @classmethod
    def of(cls, content: Mapping[str, Any], *, read_at: float) -> "RingPage":
        """The page in an answer.

        Raises:
            KeyError: a field is missing.
            TypeError: samples are no records.
            ValueError: a field is no number.
        """
        return cls(
            instance=str(content["instance"]),
            next=whole_number(content["next"]),
            dropped=whole_number(content["dropped"]),
            watermark_seconds=finite_number(content["watermarkSeconds"]),
            samples=tuple(dict(sample) for sample in content["samples"]),
            read_at=read_at,
        )

    @property
    def is_last(self) -> bool:
        """Whether the replica had no more to tell."""
        return len(self.samples) < MAX_SAMPLES_OF_PAGE

    def in_rollout(self, replica: str, arm: Arm, *, begin: float) -> Page:
        """The page of this replica, on the clock of the rollout that began at `begin`."""
        return Page(
            replica=replica,
            arm=arm,
            instance=self.instance,
            next=self.next,
            dropped=self.dropped,
            watermark_seconds=self.watermark_seconds,
            samples=self.samples,
            read_at=self.read_at - begin,
        )
