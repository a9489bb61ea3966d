"""What the stages report, copied from their results into the status.

Worked out anew from all results each time, so that nothing is counted twice and a stage that is run
again replaces what it reported before. A model that failed its gate shows its numbers, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from tunesmith_api.results import Artifact, EvaluationResult
from tunesmith_engine.lifecycle.conditions import truncate_message
from tunesmith_engine.planning.defaults import settled
from tunesmith_engine.planning.records import Plan
from tunesmith_engine.stages.contracts import StageName, StageResult

# What `FineTuneJobStatus.warnings` takes.
MAX_WARNINGS: Final = 32
SCORE_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class MergedResults:
    """The fields of the status that come from results."""

    artifacts: list[Artifact]
    evaluation: list[EvaluationResult]
    warnings: list[str]
    resolved: dict[str, str]
    model_version: str | None

    @property
    def score(self) -> float | None:
        """The held-out loss of the model that ships; of the tuned one before there is such."""
        losses = {
            number.split: number.value
            for number in self.evaluation
            if (number.suite, number.metric) == ("heldOut", "loss")
        }
        loss = losses.get("compressed", losses.get("tuned"))
        return None if loss is None else round(loss, SCORE_DIGITS)


def merge_results(plan: Plan, results: Sequence[StageResult]) -> MergedResults:
    """The fields from `results`, which are in the order of the stages; the later one counts."""
    artifacts = {artifact.name: artifact for result in results for artifact in result.artifacts}
    numbers = {
        (number.suite, number.split, number.metric): number
        for result in results
        for number in result.evaluation
    }
    # A dict, unlike a set, keeps the order in which the stages gave them.
    warnings = dict.fromkeys(
        truncate_message(warning) for result in results for warning in result.warnings
    )
    published = next((result for result in results if result.stage is StageName.PUBLISH), None)
    # NB: facts are JSON that a pod wrote. Whatever shape it has, `advance` must not fail over it.
    name: JsonValue = published.facts if published else None
    for field in ("modelVersion", "metadata", "name"):
        name = name.get(field) if isinstance(name, dict) else None
    return MergedResults(
        artifacts=list(artifacts.values()),
        evaluation=list(numbers.values()),
        warnings=list(warnings)[:MAX_WARNINGS],
        resolved=_resolved(plan, results),
        model_version=name if isinstance(name, str) else None,
    )


def _resolved(plan: Plan, results: Iterable[StageResult]) -> dict[str, str]:
    """What planning settled, what stages decided, and the versions of the libraries that did it."""
    resolved = settled(plan.spec)
    for result in results:
        decided = result.facts.get("resolved")
        if isinstance(decided, dict):
            resolved |= {name: str(value) for name, value in decided.items()}
        environment = plan.stage(result.stage).environment
        resolved |= {
            f"versions.{environment}.{library}": version
            for library, version in result.versions.items()
        }
    return resolved
