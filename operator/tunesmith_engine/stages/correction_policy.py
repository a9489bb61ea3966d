"""What may be corrected in a failed job, as the ValidatingAdmissionPolicy that the chart brings.

Written from the catalogue: what a stage reads is fixed once it, or one after it, is done. The CRD
fixes every input while a job runs; of a failed one it lets all through but the workspace, and this
policy judges. Where it is missing, a change of what is done repeats it (`lifecycle/job_retry.py`).
"""

from typing import Any, Final

from tunesmith_api.base import GROUP, VERSION
from tunesmith_api.finetunejob.status import Phase
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_engine.stages.stage import Catalog, Stage

CORRECTION_POLICY: Final = f"corrections.{GROUP}"
_API: Final = "admissionregistration.k8s.io/v1"


def correction_policy(catalog: Catalog = CATALOG) -> list[dict[str, Any]]:
    """The policy and its binding."""
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [GROUP],
                    "apiVersions": [VERSION],
                    # Not the status: that is the operator's.
                    "resources": ["finetunejobs"],
                    "operations": ["UPDATE"],
                }
            ]
        },
        "matchConditions": [
            {
                "name": "failed",
                "expression": f"oldObject.?status.?phase.orValue('') == '{Phase.FAILED}'",
            },
            {"name": "corrected", "expression": "object.spec != oldObject.spec"},
        ],
        "variables": [
            {
                "name": "done",
                "expression": "oldObject.?status.?stages.orValue([])"
                ".filter(stage, stage.?state.orValue('') == 'Succeeded')"
                ".map(stage, stage.name)",
            },
            *({"name": stage.name, "expression": _changed(stage)} for stage in catalog),
        ],
        "validations": [
            _validation(stage, readers=catalog.names[place:]) for place, stage in enumerate(catalog)
        ],
    }
    binding = {"policyName": CORRECTION_POLICY, "validationActions": ["Deny"]}
    return [
        {
            "apiVersion": _API,
            "kind": kind,
            "metadata": {"name": CORRECTION_POLICY},
            "spec": spec,
        }
        for kind, spec in (
            ("ValidatingAdmissionPolicy", policy),
            ("ValidatingAdmissionPolicyBinding", binding),
        )
    ]


def _changed(stage: Stage) -> str:
    """A list of the fields of the stage that the update changes."""
    return " + ".join(
        f"({_optional('object', field)} == {_optional('oldObject', field)} ? [] : ['{field}'])"
        for field in stage.fields
    )


def _optional(holder: str, field: str) -> str:
    return f"{holder}.spec.?{field.replace('.', '.?')}"


def _validation(stage: Stage, *, readers: tuple[str, ...]) -> dict[str, str]:
    # NB: also the stages after it. One that a job did not ask for has no status, and what it would
    # make must not come between those that are done.
    fixed = f"variables.done.exists(name, name in {list(readers)})"
    changed = f"variables.{stage.name}"
    return {
        "expression": f"{changed}.size() == 0 || !{fixed}",
        "reason": "Invalid",
        "messageExpression": f"{changed}.map(field, 'spec.' + field).join(', ') + "
        f"': what {stage.name} reads is fixed by now; make a new job'",
    }
