"""What the stages found out, copied from their results into the status.

Worked out anew from all results each time, so that nothing is counted twice and a stage that is run
again replaces what it said before. A refused model shows its numbers, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from tunesmith_api.results import Artifact, EvaluationResult
from tunesmith_engine.lifecycle.wording import clipped
from tunesmith_engine.planning.defaults import settled
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.contracts import StageResult

MAX_WARNINGS: Final = 32
SCORE_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Findings:
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
            each.split: each.value
            for each in self.evaluation
            if (each.suite, each.metric) == ("heldOut", "loss")
        }
        loss = losses.get("compressed", losses.get("tuned"))
        return None if loss is None else round(loss, SCORE_DIGITS)


def findings_of(plan: Plan, results: Sequence[StageResult]) -> Findings:
    """The findings of `results`, which are in the order of the stages; the later one counts."""
    artifacts = {each.name: each for result in results for each in result.artifacts}
    numbers = {
        (each.suite, each.split, each.metric): each
        for result in results
        for each in result.evaluation
    }
    warnings = dict.fromkeys(clipped(each) for result in results for each in result.warnings)
    return Findings(
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
        name = _at(result.facts, "modelVersion", "metadata", "name")
        if isinstance(name, str):
            return name
    return None


def _at(facts: JsonValue, *path: str) -> JsonValue:
    for name in path:
        facts = facts.get(name) if isinstance(facts, dict) else None
    return facts
