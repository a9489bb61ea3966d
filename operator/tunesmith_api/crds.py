"""The CustomResourceDefinitions, written from the same models that read manifests off-line.

`tunesmith crds` prints them, and `charts/tunesmith/files/crds/` holds them checked in; a test
refuses a stale file. `kinds.py` says which there are, `structural_schema.py` turns their models
into schemas, and here the rules are put where the server looks for them.
"""

from typing import Any

from tunesmith_api.base import GROUP, VERSION, JsonMapping
from tunesmith_api.kinds import KINDS, Kind
from tunesmith_api.rules import Rule, TransitionRule, path_parts
from tunesmith_api.structural_schema import Schema, structural_schema
from tunesmith_api.yaml_io import write_yaml

_HEADER = "# Written from the models by `tunesmith crds`; do not edit by hand.\n"


def crds() -> dict[str, JsonMapping]:
    """Every CRD by the name of its file."""
    return {f"{kind.plural}.yaml": crd_of(kind) for kind in KINDS}


def crd_files() -> dict[str, str]:
    """The text of every file in `charts/tunesmith/files/crds/`, by its name."""
    return {name: _HEADER + write_yaml(crd) for name, crd in crds().items()}


def crds_yaml() -> str:
    """Every CRD in one stream that `kubectl apply -f -` reads."""
    return "---\n".join(crd_files().values())


def crd_of(kind: Kind) -> JsonMapping:
    """The definition of one kind."""
    version: JsonMapping = {
        "name": VERSION,
        "served": True,
        "storage": True,
        # With the subresource, writes of the status change no generation, and a right to the one
        # is no right to the other.
        **({"subresources": {"status": {}}} if kind.has_status else {}),
        "additionalPrinterColumns": [
            {
                "name": column.name,
                "type": column.type,
                "jsonPath": column.json_path,
                "description": column.description,
                **({"priority": 1} if column.is_wide else {}),
            }
            for column in kind.columns
        ],
        "schema": {"openAPIV3Schema": _schema_of(kind)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["tunesmith"],
            },
            "versions": [version],
        },
    }


def _schema_of(kind: Kind) -> Schema:
    schema = structural_schema(kind.model)
    properties = schema["properties"]
    # Metadata is the server's own: a CRD may bound the name in it, and is refused with more.
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
    for rule in kind.rules:
        for scope in rule.scopes:
            _add_rule(properties["spec"], scope, rule)
    for transition in kind.transition_rules:
        _add_rule(schema, transition.scope, transition)
    return schema | {"required": ["metadata", "spec"]}


def _add_rule(node: Schema, scope: str, rule: Rule[Any] | TransitionRule) -> None:
    """Put the rule at the node that it sees as `self`.

    The server estimates what a rule may cost from the bounds of what it sees, times how often its
    node can occur, and refuses a CRD beyond its budget: hence the bounds on every text, list and
    mapping of a spec.
    """
    for part in path_parts(scope):
        node = node["items"] if part == "*" else node["properties"][part]
    field = {"fieldPath": f".{rule.field}"} if rule.field else {}
    validation = {"rule": rule.cel, **field, "message": rule.message}
    node.setdefault("x-kubernetes-validations", []).append(validation)
