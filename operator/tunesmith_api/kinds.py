"""The kinds of the group: one row each, from which everything that lists kinds derives.

`crds.py` writes their definitions and `scripts/write_reference.py` their reference pages. A new
kind is a module with its models, columns and rules, and a row here; its controller is the
operator's matter.
"""

from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api import modelversion
from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob import job, rules
from tunesmith_api.modeldeployment import deployment
from tunesmith_api.modeldeployment import spec as deployment_spec
from tunesmith_api.printer_columns import PrinterColumn
from tunesmith_api.rules import Rule, TransitionRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind as a server has to know it; `model` is the whole resource, named like the kind."""

    model: type[ApiModel]
    plural: str
    short_name: str
    columns: tuple[PrinterColumn, ...]
    rules: tuple[Rule[Any], ...] = ()
    transition_rules: tuple[TransitionRule, ...] = ()

    @property
    def name(self) -> str:
        """What manifests write into `kind`."""
        return self.model.__name__

    @property
    def has_status(self) -> bool:
        """Whether something is observed of it; a record has no status and never changes."""
        return "status" in self.model.model_fields


KINDS: Final = (
    Kind(
        model=job.FineTuneJob,
        plural="finetunejobs",
        short_name="ftj",
        columns=job.PRINTER_COLUMNS,
        rules=rules.RULES,
        transition_rules=rules.TRANSITION_RULES,
    ),
    Kind(
        model=modelversion.ModelVersion,
        plural="modelversions",
        short_name="mver",
        columns=modelversion.PRINTER_COLUMNS,
        transition_rules=modelversion.TRANSITION_RULES,
    ),
    Kind(
        model=deployment.ModelDeployment,
        plural="modeldeployments",
        short_name="mdep",
        columns=deployment.PRINTER_COLUMNS,
        rules=deployment_spec.RULES,
    ),
)
