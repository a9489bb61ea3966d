"""When the queries of a rollout are due, what is asked, and the readings that come of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tunesmith_api.modeldeployment.limits import Limits
from tunesmith_api.modeldeployment.queries import QueryProblem
from tunesmith_api.modeldeployment.status import RevisionStatus
from tunesmith_engine.monitoring.prometheus import Answer, Prometheus
from tunesmith_engine.rollout.queries import Reading, fill
from tunesmith_engine.rollout.samples import Arm

# Where a namespace is left out, as on a laptop.
NAMESPACE: Final = "default"


@dataclass(slots=True)
class QueryReader:
    """The queries of one rollout; `last` is when they were asked last, on the rollout's clock."""

    limits: Limits
    prometheus: Prometheus | None
    values: Mapping[Arm, Mapping[str, str]]
    last: float | None = field(default=None)

    @classmethod
    def of(
        cls,
        limits: Limits,
        *,
        prometheus: Prometheus | None,
        arms: Mapping[Arm, RevisionStatus],
        deployment: str,
        namespace: str = NAMESPACE,
    ) -> "QueryReader":
        """The reader for two revisions of a deployment."""
        values = {
            arm: {
                "version": revision.version,
                "revision": revision.revision,
                "role": arm.value,
                "namespace": namespace,
                "deployment": deployment,
            }
            for arm, revision in arms.items()
        }
        return cls(limits, prometheus, values)

    def is_due(self, now: float) -> bool:
        """Whether the queries are to be asked now; `now` is seconds since the rollout began."""
        if not self.limits.queries:
            return False
        return self.last is None or now - self.last >= self.limits.query_seconds

    def answers(self) -> list[Answer]:
        """Ask for every number, stable's first; blocks until the answers are there or late."""
        questions = [
            fill(query.query, self.values[arm]) for query in self.limits.queries for arm in Arm
        ]
        if self.prometheus is None:
            return [QueryProblem.NO_PROMETHEUS] * len(questions)
        return self.prometheus.ask_all(questions)

    def readings(self, answers: Sequence[Answer], *, now: float) -> list[Reading]:
        """What the answers say that were there at `now`."""
        self.last = now
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return [
            Reading(
                query=query.name,
                time_seconds=now,
                stable=_number(stable),
                candidate=_number(candidate),
                problem=next((a for a in (candidate, stable) if isinstance(a, QueryProblem)), None),
            )
            for query, (stable, candidate) in zip(self.limits.queries, pairs, strict=True)
        ]


def _number(answer: Answer) -> float | None:
    return None if isinstance(answer, QueryProblem) else answer
