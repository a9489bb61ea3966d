"""What the stages report, copied from their results into the status.

Worked out anew from all results each time, so that nothing is counted twice and a stage that is run
again replaces what it reported before. A model that failed its gate shows its numbers, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.status import MAX_WARNINGS
from tunesmith_api.results import Artifact, EvaluationResult
from tunesmith_engine.conditions import truncate_message
from tunesmith_engine.planning.defaults import settled
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.contracts import StageResult

SCORE_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class MergedResults:
    """The fields of the status that come from results."""

    artifacts: list[Artifact]
    evaluation: list[EvaluationResult]
    warnings: list[str]
    resolved: dict[str, str]
    versions: dict[str, str]
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
    return MergedResults(
        artifacts=list(artifacts.values()),
        evaluation=list(numbers.values()),
        warnings=list(warnings)[:MAX_WARNINGS],
        resolved=_resolved(plan, results),
        versions={
            f"{plan.stage(result.stage).environment}/{library}": version
            for result in results
            for library, version in result.versions.items()
        },
        model_version=_model_version(results),
    )


def _resolved(plan: Plan, results: Iterable[StageResult]) -> dict[str, str]:
    """What planning settled and what stages decided, by path below `spec`."""
    resolved = settled(plan.spec)
    for result in results:
        decided = result.facts.get("resolved")
        if isinstance(decided, dict):
            resolved |= {name: str(value) for name, value in decided.items()}
    return resolved


def _model_version(results: Iterable[StageResult]) -> str | None:
    """The name of the ModelVersion that a stage wrote."""
    for result in results:
        # NB: facts are JSON that a pod wrote. Whatever shape it has, `advance` must not fail.
        name: JsonValue = result.facts
        for field in ("modelVersion", "metadata", "name"):
            name = name.get(field) if isinstance(name, dict) else None
        if isinstance(name, str):
            return name
    return None
