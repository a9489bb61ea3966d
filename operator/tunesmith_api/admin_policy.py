"""`FineTunePolicy`: what an admin allows jobs and deployments to use, enforced by the API server.

A definition of its parameters, and for each kind a ValidatingAdmissionPolicy with its binding, all
written by `make crds`. Every FineTunePolicy has to hold, for the namespaces that it names or for
all; a field that it leaves out allows everything. Where the addresses, secrets and endpoints of a
job stand follows from the models, so that a new field is held as well.
"""

from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel

from tunesmith_api.base import GROUP, VERSION
from tunesmith_api.endpoint import Endpoint
from tunesmith_api.field_paths import record_paths
from tunesmith_api.field_types import SecretReference
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.suites import Suite
from tunesmith_api.finetunejob.tracking import Mlflow, Wandb
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec

ADMIN_POLICY: Final = f"finetunepolicies.{GROUP}"
_API: Final = "admissionregistration.k8s.io/v1"
_ADDRESSES: Final = (
    "Addresses, each whole, or with / at its end and all below it. None is allowed that leads "
    "upwards. Default: all."
)
_PLURALS: Final[dict[str, type[BaseModel]]] = {
    "finetunejobs": FineTuneJobSpec,
    "modeldeployments": ModelDeploymentSpec,
}


def admin_policy() -> list[dict[str, Any]]:
    """The definition of the parameters, the policies and their bindings."""
    parts = [_definition()]
    for plural, model in _PLURALS.items():
        name = f"{plural}.{ADMIN_POLICY}"
        rules, used = (
            (_JOB_RULES, _job_variables())
            if model is FineTuneJobSpec
            else (_PLACEMENT_RULES, _variables_with({"secrets": _secrets(model)}))
        )
        parts += [
            _object("ValidatingAdmissionPolicy", name, _policy(plural, rules, used)),
            _object("ValidatingAdmissionPolicyBinding", name, _binding(name)),
        ]
    return parts


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _binding(name: str) -> dict[str, Any]:
    # Of no FineTunePolicy at all, everything is allowed.
    parameters = {"selector": {}, "parameterNotFoundAction": "Allow"}
    return {"policyName": name, "validationActions": ["Deny"], "paramRef": parameters}


def _policy(plural: str, rules: dict[str, str], variables: dict[str, str]) -> dict[str, Any]:
    return {
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": f"{GROUP}/{VERSION}", "kind": "FineTunePolicy"},
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [GROUP],
                    "apiVersions": [VERSION],
                    "resources": [plural],
                    "operations": ["CREATE", "UPDATE"],
                }
            ]
        },
        # What was made before the policy may be stopped and labelled all the same.
        "matchConditions": [
            {
                "name": "changed",
                "expression": "oldObject == null || object.spec != oldObject.spec",
            }
        ],
        "variables": [
            {
                "name": "applies",
                "expression": "params.spec.?namespaces.orValue([]).size() == 0 || "
                "object.metadata.namespace in params.spec.namespaces",
            },
            *({"name": name, "expression": text} for name, text in variables.items()),
        ],
        "validations": [_validation(name, refused) for name, refused in rules.items()],
    }


def _validation(name: str, refused: str) -> dict[str, Any]:
    """`refused` is the list of what is not allowed, as texts."""
    return {
        "expression": f"!variables.applies || !has(params.spec.{name}) || {refused}.size() == 0",
        "reason": "Forbidden",
        "messageExpression": f"'FineTunePolicy ' + params.metadata.name + ', {name}: not allowed "
        f"is ' + {refused}[0] + '; ask who runs the cluster, or take what it names'",
    }


def _addresses_beyond(variable: str, name: str) -> str:
    allowed = (
        f"params.spec.{name}.exists(p, u == p || (p.endsWith('/') && u.startsWith(p)))"
        " && !u.contains('/../') && !u.endsWith('/..') && !u.lowerAscii().contains('%2e')"
    )
    return f"variables.{variable}.filter(u, !({allowed}))"


def _names_beyond(variable: str, name: str) -> str:
    return f"variables.{variable}.filter(n, !(n in params.spec.{name}))"


def _number_beyond(variable: str, name: str) -> str:
    return f"(variables.{variable} > params.spec.{name} ? [string(variables.{variable})] : [])"


_PLACEMENT_RULES: Final[dict[str, str]] = {
    "secrets": _names_beyond("secrets", "secrets"),
    "priorityClasses": _names_beyond("priorityClasses", "priorityClasses"),
    "tolerations": _names_beyond("tolerations", "tolerations"),
}
_JOB_RULES: Final[dict[str, str]] = {
    "sources": _addresses_beyond("sources", "sources"),
    "outputs": _addresses_beyond("outputs", "outputs"),
    "endpoints": _addresses_beyond("endpoints", "endpoints"),
    "claims": _names_beyond("claims", "claims"),
    **_PLACEMENT_RULES,
    "maxWorkers": _number_beyond("workers", "maxWorkers"),
    "maxAccelerators": _number_beyond("accelerators", "maxAccelerators"),
}


def _job_variables() -> dict[str, str]:
    job = FineTuneJobSpec
    return _variables_with(
        {
            "sources": _values(record_paths(job, ModelSource, DataSource, Suite), "uri"),
            "outputs": _values(["output", "workspace"], "uri"),
            "endpoints": " + ".join(
                (
                    _values(record_paths(job, Endpoint), "url"),
                    _values(record_paths(job, Mlflow), "trackingUri"),
                    _values(record_paths(job, Wandb), "url"),
                )
            ),
            "claims": _values(["workspace"], "claimName"),
            "secrets": _secrets(job),
            "workers": "object.spec.resources.workers",
            "accelerators": "object.spec.resources.workers * object.spec.resources.gpusPerWorker",
        },
    )


def _variables_with(more: dict[str, str]) -> dict[str, str]:
    keys = "object.spec.?resources.?tolerations.orValue([]).map(t, t.?key.orValue('*'))"
    return {
        "priorityClasses": _values(["resources"], "priorityClassName"),
        "tolerations": keys,
        **more,
    }


def _secrets(model: type[BaseModel]) -> str:
    return _values(record_paths(model, SecretReference), "name")


def _values(paths: Iterable[str], field: str) -> str:
    """A list of the texts at these paths below spec, as far as they are there."""
    return " + ".join(_list_at(path, field) for path in dict.fromkeys(paths)) or "[]"


def _list_at(path: str, field: str) -> str:
    before, star, after = path.partition(".*")
    place = "object.spec" + "".join(f".?{name}" for name in before.split("."))
    if not star:
        return f"[?{place}.?{field}]"
    if "*" in after:
        raise ValueError(f"{path}: a list within a list has no expression here")
    inner = "s" + "".join(f".?{name}" for name in (*filter(None, after.split(".")), field))
    return f"{place}.orValue([]).filter(s, {inner}.hasValue()).map(s, {inner}.value())"


def _texts(description: str, *, most: int = 100) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": 1024}
    return {"type": "array", "maxItems": most, "description": description, "items": text}


def _number(description: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": 100_000, "description": description}


def _definition() -> dict[str, Any]:
    properties = {
        "namespaces": _texts("Namespaces in which it holds. Default: all.", most=1000),
        "sources": _texts(f"What is read: models, data, tasks. {_ADDRESSES}"),
        "outputs": _texts(f"Where versions and workspaces lie. {_ADDRESSES}"),
        "endpoints": _texts(f"APIs that are asked, trackers included. {_ADDRESSES}"),
        "secrets": _texts("Names of secrets that may be given to stages. Default: all."),
        "claims": _texts("Volumes that may be given as workspaces. Default: all."),
        "priorityClasses": _texts("PriorityClasses of pods. Default: all."),
        "tolerations": _texts("Keys of tolerated taints; * is one without a key. Default: all."),
        "maxWorkers": _number("Workers of a job. Default: any number."),
        "maxAccelerators": _number("Accelerators of a job. Default: any number."),
    }
    schema = {
        "type": "object",
        "required": ["spec"],
        "description": "What an admin allows jobs and deployments to use.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": properties},
        },
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": ADMIN_POLICY},
        "spec": {
            "group": GROUP,
            # Of the cluster: whoever edits a namespace must not allow himself more.
            "scope": "Cluster",
            "names": {
                "plural": "finetunepolicies",
                "singular": "finetunepolicy",
                "kind": "FineTunePolicy",
                "listKind": "FineTunePolicyList",
                "shortNames": ["ftp"],
            },
            "versions": [version],
        },
    }
