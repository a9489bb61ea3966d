"""What the user's own queries say of a candidate: bounds that are held against a few readings.

A number from Prometheus is no sample: readings share most of their range, nobody knows how they
scatter, so no error budget can be kept with them. They are bounds, and said to be no more.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from tunesmith_api.base import ApiModel
from tunesmith_api.modeldeployment.queries import (
    PLACEHOLDERS,
    MetricQuery,
    QueryName,
    QueryProblem,
)
from tunesmith_engine.rollout.eprocess import Flags, Floats
from tunesmith_engine.rollout.samples import Seconds

# Names of versions, revisions and objects have no other characters, so none that ends a string.
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Reading(ApiModel):
    """One query, asked for both versions at about one moment.

    Attributes:
        query: its name.
        time_seconds: when the answers were there, since the rollout began.
        stable: the number of the stable version; None: there was none.
        candidate: that of the candidate.
        problem: why a number is missing.
    """

    query: QueryName
    time_seconds: Seconds
    stable: float | None = None
    candidate: float | None = None
    problem: QueryProblem | None = None


@dataclass(frozen=True, slots=True)
class QueryEvidence:
    """The last reading of a query, and how many bad and good ones there were in a row until it."""

    name: str
    stable: float | None
    candidate: float | None
    problem: QueryProblem | None
    num_bad: int
    num_good: int
    state: Literal["bad", "good", "open"]


def fill(query: str, values: Mapping[str, str]) -> str:
    """The query with a value for each placeholder.

    Raises:
        ValueError: a value has characters that a name has not.
    """
    for name in PLACEHOLDERS:
        if not _SAFE.fullmatch(values[name]):
            raise ValueError(f"{name} is {values[name]!r}, and no name; it gets into no query")
        query = query.replace(f"{{{{{name}}}}}", values[name])
    return query


class QueryCourse:
    """One query at all looks of a rollout; `ends_s` are the times of the looks."""

    def __init__(
        self, query: MetricQuery, readings: Sequence[Reading], *, since_s: float, ends_s: Floats
    ) -> None:
        self._query = query
        self._readings = [
            reading
            for reading in readings
            if reading.query == query.name and reading.time_seconds >= since_s
        ]
        verdicts = [is_bad(query, reading) for reading in self._readings]
        times = [reading.time_seconds for reading in self._readings]
        # NB: what is read at the very end of a look comes after it: the look was taken by then.
        self._num_read = np.searchsorted(np.array(times, dtype=float), ends_s, side="left")
        self._num_bad, self._num_good = (
            np.array([0, *_in_a_row(verdicts, which)]) for which in (True, False)
        )

    def rolls_back(self) -> Flags:
        """Whether so many readings in a row were bad, by each look."""
        is_bad_enough: Flags = self._num_bad >= self._query.consecutive
        return np.logical_or.accumulate(is_bad_enough)[self._num_read]

    def promotes(self) -> Flags:
        """Whether the readings up to each look let the candidate pass."""
        num_good, num_bad = self._num_good[self._num_read], self._num_bad[self._num_read]
        lets: Flags = num_good >= self._query.consecutive if self._query.required else num_bad == 0
        return lets

    def evidence(self, look: int) -> QueryEvidence:
        """What is known at a look."""
        index = int(self._num_read[look])
        last = (
            self._readings[index - 1] if index else Reading(query=self._query.name, time_seconds=0)
        )
        state: Literal["bad", "good", "open"] = "good" if self.promotes()[look] else "open"
        return QueryEvidence(
            name=self._query.name,
            stable=last.stable,
            candidate=last.candidate,
            problem=last.problem,
            num_bad=int(self._num_bad[index]),
            num_good=int(self._num_good[index]),
            state="bad" if self.rolls_back()[look] else state,
        )


def is_bad(query: MetricQuery, reading: Reading) -> bool | None:
    """Whether the candidate breaks a bound; None where a number that it takes is missing."""
    sign = 1.0 if query.worse == "higher" else -1.0
    stable, candidate = reading.stable, reading.candidate
    if candidate is None:
        return None
    breaks_limit = query.limit is not None and sign * (candidate - query.limit) > 0
    if breaks_limit or query.minimum_effect is None:
        return breaks_limit
    return None if stable is None else sign * (candidate - stable) >= query.minimum_effect


def _in_a_row(verdicts: Sequence[bool | None], which: bool) -> list[int]:  # noqa: FBT001
    counts: list[int] = []
    for verdict in verdicts:
        counts.append((counts[-1] if counts else 0) + 1 if verdict is which else 0)
    return counts
