"""What a stage function hands back when it succeeded.

Or attaches to its error when it judged and said no.
"""

from dataclasses import dataclass, field

from pydantic import JsonValue

from tunesmith_api.results import Artifact, EvaluationResult


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """The findings of a stage.

    Every field but `message` goes unchanged into its `StageResult`.
    """

    message: str
    artifacts: list[Artifact] = field(default_factory=list)
    evaluation: list[EvaluationResult] = field(default_factory=list)
    facts: dict[str, JsonValue] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    resumed_from_step: int | None = None
