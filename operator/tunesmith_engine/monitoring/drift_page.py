"""A replica's answer at /tunesmith/drift, as both executors read it: requests in blocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.json_io import finite_number, whole_number

# For one reading of one replica: as many as its ring holds.
MAX_DRIFT_PAGES: Final = 4
# A century: of what is said to be older no time can be made.
_OLDEST_S: Final = 3.2e9


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
            ValueError: a field is no number, or an age is none.
        """
        return cls(
            instance=str(content["instance"]),
            next=whole_number(content["next"]),
            version=str(content["version"]),
            blocks=tuple(
                DriftBlock(_age_s(block["ageSeconds"]), dict(block["sketch"]))
                for block in content["blocks"]
            ),
        )


def _age_s(value: Any) -> float:
    age_s = finite_number(value)
    if not 0 <= age_s <= _OLDEST_S:
        raise ValueError(f"{age_s} s is no age of a request")
    return age_s
