"""The CustomResourceDefinitions, written from the same models that read manifests off-line.

`tunesmith crds` prints them, and `charts/tunesmith/files/crds/` holds them checked in; a test
refuses a stale file. `structural_schema.py` turns the models into schemas, `rules.py` gives the rules across
fields, and this module adds what only a server enforces: what may change, and when.
"""

from collections.abc import Iterator

from tunesmith_api.base import GROUP, VERSION, JsonMapping
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.rules import MUTABLE_FIELDS, RULES, Rule
from tunesmith_api.modelversion import ModelVersion
from tunesmith_api.structural_schema import Schema, structural_schema
from tunesmith_api.yaml_io import write_yaml

_HEADER = "# Written from the models by `tunesmith crds`; do not edit by hand.\n"

_JOB_COLUMNS = (
    ("Phase", "string", ".status.phase", "What the job does now.", 0),
    ("Progress", "integer", ".status.progress.percent", "Percent of the whole job.", 0),
    ("ETA", "integer", ".status.progress.etaSeconds", "Seconds left in the running stage.", 0),
    ("Score", "number", ".status.score", "Held-out loss of the model that ships.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the job was made.", 0),
    ("Base", "string", ".spec.model.uri", "The base model.", 1),
    ("Method", "string", ".spec.training.method", "How it is trained.", 1),
    ("Workers", "integer", ".spec.resources.workers", "Processes that train.", 1),
    ("GPUs", "integer", ".spec.resources.gpusPerWorker", "GPUs of each worker.", 1),
    ("Attempt", "integer", ".status.attempts[-1:].number", "Attempt of the latest stage.", 1),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why it is so.", 1),
)
_VERSION_COLUMNS = (
    ("Model", "string", ".spec.model", "Name that clients know.", 0),
    ("Version", "string", ".spec.version", "Name of the version.", 0),
    ("Scheme", "string", ".spec.scheme", "How the weights are stored.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since it was published.", 0),
    ("URI", "string", ".spec.uri", "Where the files lie.", 1),
    ("Job", "string", ".spec.lineage.job", "The job that made it.", 1),
    ("Base", "string", ".spec.lineage.baseModel", "What it was made from.", 1),
)


def crds() -> dict[str, JsonMapping]:
    """Every CRD by the name of its file."""
    return {
        "finetunejobs.yaml": _crd(
            kind="FineTuneJob",
            plural="finetunejobs",
            short="ftj",
            columns=_JOB_COLUMNS,
            schema=_job_schema(),
        ),
        "modelversions.yaml": _crd(
            kind="ModelVersion",
            plural="modelversions",
            short="mver",
            columns=_VERSION_COLUMNS,
            schema=_version_schema(),
        ),
    }


def crd_files() -> dict[str, str]:
    """The text of every file in `charts/tunesmith/files/crds/`, by its name."""
    return {name: _HEADER + write_yaml(crd) for name, crd in crds().items()}


def crds_yaml() -> str:
    """Every CRD in one stream that `kubectl apply -f -` reads."""
    return "---\n".join(crd_files().values())


def _crd(
    *,
    kind: str,
    plural: str,
    short: str,
    columns: tuple[tuple[str, str, str, str, int], ...],
    schema: Schema,
) -> JsonMapping:
    has_status = "status" in schema["properties"]
    version: JsonMapping = {
        "name": VERSION,
        "served": True,
        "storage": True,
        **({"subresources": {"status": {}}} if has_status else {}),
        "additionalPrinterColumns": [_column(each) for each in columns],
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["tunesmith"],
            },
            "versions": [version],
        },
    }


def _column(column: tuple[str, str, str, str, int]) -> JsonMapping:
    name, kind, path, about, priority = column
    return {
        "name": name,
        "type": kind,
        "jsonPath": path,
        "description": about,
        **({"priority": priority} if priority else {}),
    }


def _job_schema() -> Schema:
    schema = _resource(structural_schema(FineTuneJob))
    for rule in RULES:
        for scope in rule.scopes:
            _add_rule(_node_at(schema["properties"]["spec"], scope), _validation(rule))
    spec = schema["properties"]["spec"]
    for field in spec["properties"]:
        if field not in MUTABLE_FIELDS:
            _add_rule(schema, _fixed_after_start(field, is_optional=_is_optional(spec, field)))
    return schema


def _version_schema() -> Schema:
    schema = _resource(structural_schema(ModelVersion))
    message = "a ModelVersion is a record and never changes; publish another version"
    _add_rule(schema["properties"]["spec"], {"rule": "self == oldSelf", "message": message})
    return schema


def _resource(schema: Schema) -> Schema:
    """The schema of a whole object, whose metadata is the server's but for the name's bounds."""
    properties = schema["properties"]
    name = {
        key: value
        for key, value in properties["metadata"]["properties"]["name"].items()
        if key in {"type", "pattern", "minLength", "maxLength"}
    }
    properties |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "properties": {"name": name}},
    }
    return schema | {"required": ["metadata", "spec"]}


def _is_optional(spec: Schema, field: str) -> bool:
    """Whether a stored job may lack the field: it is not required and has no default."""
    return field not in spec["required"] and "default" not in spec["properties"][field]


def _fixed_after_start(field: str, *, is_optional: bool) -> dict[str, str]:
    is_same = f"self.spec.{field} == oldSelf.spec.{field}"
    if is_optional:
        has_now, had = f"has(self.spec.{field})", f"has(oldSelf.spec.{field})"
        is_same = f"{has_now} == {had} && (!{has_now} || {is_same})"
    return {
        "rule": f"!has(oldSelf.status) || !has(oldSelf.status.startTime) || ({is_same})",
        "fieldPath": f".spec.{field}",
        "message": f"{field} is fixed once the job has started; make a new job",
    }


def _validation(rule: Rule) -> dict[str, str]:
    at = {"fieldPath": f".{rule.field}"} if rule.field else {}
    return {"rule": rule.cel, **at, "message": rule.message}


def _add_rule(node: Schema, validation: dict[str, str]) -> None:
    node.setdefault("x-kubernetes-validations", []).append(validation)


def _node_at(node: Schema, scope: str) -> Schema:
    for part in _parts(scope):
        node = node["items"] if part == "*" else node["properties"][part]
    return node


def _parts(scope: str) -> Iterator[str]:
    yield from scope.split(".") if scope else ()
