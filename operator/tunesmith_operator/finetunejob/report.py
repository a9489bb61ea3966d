"""What the stages of a job report: a ConfigMap that their pods patch, and nobody else reads.

A result counts if the attempt's child has ended as it says, and from then on for as long as it has
the digest that the operator noted in the status: a training pod cannot write its own verdict.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar

from pydantic import BaseModel, ValidationError

from tunesmith_api.finetunejob.status import Progress
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_operator.finetunejob.attempts import StageAttempt
from tunesmith_operator.finetunejob.child_names import report_key, reporting_attempt
from tunesmith_operator.kube.objects import Manifest, owners_of

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Report:
    """The records by key; one that `is_missing` is not there, or is another job's."""

    is_missing: bool = True
    uid: str = ""
    records: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config_map: Manifest | None, *, uid: str) -> Self:
        """The report of the job with this uid."""
        # An earlier job of this name may have left one that is about to go.
        if config_map is None or uid not in owners_of(config_map):
            return cls()
        map_uid, records = config_map["metadata"]["uid"], dict(config_map.get("data") or {})
        return cls(is_missing=False, uid=map_uid, records=records)

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

    def removal_of_outdated(self, attempts: Iterable[StageAttempt]) -> Manifest | None:
        """The merge patch that takes away what attempts told that were followed by another.

        None if there is nothing to take away. `attempts` are the latest that the status knows of:
        one that is past leads to fewer keys, and to none that counts, for numbers only grow.
        """
        latest = {attempt.stage.name: attempt.number for attempt in attempts}
        told = ((key, reporting_attempt(key)) for key in self.records)
        outdated = {key: None for key, by in told if by and by[1] < latest.get(by[0], 0)}
        # The uid is a precondition: another report of that name stays as it is.
        return {"metadata": {"uid": self.uid}, "data": outdated} if outdated else None

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
