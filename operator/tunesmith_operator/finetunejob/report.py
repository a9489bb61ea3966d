"""What the stages of a job report: a ConfigMap that their pods patch, and nobody else reads.

A result counts if the attempt's child has ended as it says, and from then on for as long as it has
the digest that the operator noted in the status: a training pod cannot write its own verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar

from pydantic import BaseModel, ValidationError

from tunesmith_api.finetunejob.status import Progress
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_operator.finetunejob.attempts import StageAttempt
from tunesmith_operator.finetunejob.child_names import report_key
from tunesmith_operator.kube.objects import Manifest, owners_of

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Report:
    """The records by key; one that `is_missing` is not there, or is another job's."""

    is_missing: bool = True
    records: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config_map: Manifest | None, *, uid: str) -> Self:
        """The report of the job with this uid."""
        # An earlier job of this name may have left one that is about to go.
        if config_map is None or uid not in owners_of(config_map):
            return cls()
        return cls(is_missing=False, records=dict(config_map.get("data") or {}))

    def progress_of(self, attempt: StageAttempt) -> Progress | None:
        """What the attempt has told last of how far it is."""
        return self._record(Progress, attempt, "progress")

    def result_of(self, attempt: StageAttempt, *, outcome: str) -> StageResult | None:
        """What the attempt reported, if it says that the attempt ended with this outcome."""
        stage = attempt.stage
        result = self._record(StageResult, attempt, "result")
        if result is None or result.outcome != outcome:
            return None
        # Whoever may patch the report could copy the result of another attempt under this key.
        identity = (result.stage, result.key, result.attempt)
        return result if identity == (stage.name, stage.key, attempt.number) else None

    def noted_result_of(self, attempt: StageAttempt) -> StageResult | None:
        """The result of an attempt that succeeded, if it is still the one that was noted."""
        result = self.result_of(attempt, outcome="Succeeded")
        return result if result is not None and result.digest == attempt.result_digest else None

    def _record(self, model: type[M], attempt: StageAttempt, kind: str) -> M | None:
        """A record of a stage; one that breaks its schema does not count."""
        stage = attempt.stage
        text = self.records.get(report_key(stage.name, attempt.number, kind, key=stage.key), "")
        if not text:
            return None
        try:
            return model.model_validate_json(text)
        except ValidationError:
            return None
