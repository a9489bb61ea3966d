"""The resource itself: metadata, spec and status; what breaks a rule is refused here."""

from typing import Final, Literal, Self

from pydantic import model_validator

from tunesmith_api.base import API_VERSION, ApiModel
from tunesmith_api.metadata import ObjectMeta
from tunesmith_api.modeldeployment.spec import RULES, ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_api.printer_columns import PrinterColumn
from tunesmith_api.rules import check_rules

_READY: Final = '.status.conditions[?(@.type=="Ready")]'

PRINTER_COLUMNS: Final = (
    PrinterColumn("Phase", "string", ".status.phase", "What happens now."),
    PrinterColumn("Stable", "string", ".status.stable.version", "Version that serves."),
    PrinterColumn("Candidate", "string", ".status.candidate.version", "Version on trial."),
    PrinterColumn("Weight", "integer", ".status.candidate.weight", "Percent of the candidate."),
    PrinterColumn("Ready", "integer", ".status.readyReplicas", "Replicas that answer."),
    PrinterColumn("Age", "date", ".metadata.creationTimestamp", "Time since it was made."),
    PrinterColumn("Model", "string", ".spec.model", "Model that is served.", is_wide=True),
    PrinterColumn("Endpoint", "string", ".status.endpoint", "Base URL.", is_wide=True),
    PrinterColumn(
        "Verdict", "string", ".status.lastVerdict.decision", "The judge's last.", is_wide=True
    ),
    PrinterColumn("Reason", "string", f"{_READY}.reason", "Why it is so.", is_wide=True),
)


class ModelDeployment(ApiModel):
    """A model behind one address: replicas, traffic, canary and rollback."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelDeployment"] = "ModelDeployment"
    metadata: ObjectMeta
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus | None = None

    @model_validator(mode="after")
    def keeps_the_rules(self) -> Self:
        """Refuse a spec whose fields do not go together, once each of them is sound."""
        check_rules(self, self.spec, RULES)
        return self
