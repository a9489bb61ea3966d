"""The resource itself: metadata, spec and status; what breaks a rule is refused here."""

from typing import Final, Literal, Self

from pydantic import model_validator

from tunesmith_api.base import API_VERSION, ApiModel
from tunesmith_api.finetunejob.rules import RULES
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.status import MAX_RETRY_VALUE, FineTuneJobStatus
from tunesmith_api.metadata import ObjectMeta
from tunesmith_api.printer_columns import PrinterColumn
from tunesmith_api.rules import check_rules

# As Flux has `reconcile.fluxcd.io/requestedAt`: any value that the status does not show as handled.
RETRY_ANNOTATION: Final = "tunesmith.dev/retry-requested-at"

_READY: Final = '.status.conditions[?(@.type=="Ready")]'

PRINTER_COLUMNS: Final = (
    PrinterColumn("Phase", "string", ".status.phase", "What the job does now."),
    PrinterColumn("Progress", "integer", ".status.progress.percent", "Percent of the whole job."),
    PrinterColumn(
        "ETA", "integer", ".status.progress.etaSeconds", "Seconds left in the running stage."
    ),
    PrinterColumn("Score", "number", ".status.score", "Held-out loss of the model that ships."),
    PrinterColumn("Age", "date", ".metadata.creationTimestamp", "Time since the job was made."),
    PrinterColumn("Base", "string", ".spec.model.uri", "The base model.", is_wide=True),
    PrinterColumn("Method", "string", ".spec.training.method", "How it is trained.", is_wide=True),
    PrinterColumn(
        "Workers", "integer", ".spec.resources.workers", "Processes that train.", is_wide=True
    ),
    PrinterColumn(
        "GPUs", "integer", ".spec.resources.gpusPerWorker", "GPUs of each worker.", is_wide=True
    ),
    PrinterColumn(
        "Attempt",
        "integer",
        ".status.attempts[-1:].number",
        "Attempt of the latest stage.",
        is_wide=True,
    ),
    PrinterColumn("Reason", "string", f"{_READY}.reason", "Why it is so.", is_wide=True),
)


class FineTuneJob(ApiModel):
    """Data → train → evaluate → compress → verify → publish, once."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION
    kind: Literal["FineTuneJob"] = "FineTuneJob"
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: FineTuneJobStatus | None = None

    @property
    def retry_requested(self) -> str:
        """The value of `RETRY_ANNOTATION` as the status keeps it; empty without one."""
        return self.metadata.annotations.get(RETRY_ANNOTATION, "")[:MAX_RETRY_VALUE]

    @model_validator(mode="after")
    def keeps_the_rules(self) -> Self:
        """Refuse a spec whose fields do not go together, once each of them is sound."""
        check_rules(self, self.spec, RULES)
        return self
