"""A replica's answer at /tunesmith/drift, as both executors read it: requests in blocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# For one reading of one replica: as many as its ring holds.
MAX_DRIFT_PAGES: Final = 4


@dataclass(frozen=True, slots=True)
class DriftBlock:
    """Up to 16 requests as a sketch, and how long ago the last of them arrived."""

    age_seconds: float
    sketch: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DriftPage:
    """One answer, in order of arrival; `next` is the place behind its last block."""

    instance: str
    next: int
    version: str
    blocks: tuple[DriftBlock, ...]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "DriftPage":
        """The page in an answer.

        Raises:
            KeyError: a field is missing.
            TypeError: blocks are no records.
            ValueError: a field is no number.
        """
        return cls(
            instance=str(content["instance"]),
            next=int(content["next"]),
            version=str(content["version"]),
            blocks=tuple(
                DriftBlock(float(block["ageSeconds"]), dict(block["sketch"]))
                for block in content["blocks"]
            ),
        )
