"""A pydantic model as a structural OpenAPI v3 schema, the dialect that CRDs are written in.

Pydantic speaks JSON Schema 2020; the API server wants every `$ref` written out, no `anyOf` with
null, exclusive bounds as flags, and defaults beside the fields. `crds.py` adds rules and wraps the
outcome. Records are spelt out in their defaults: the API server tries a default against the rules
before it fills in what is below it.
"""

import re
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, NoDefault
from pydantic_core import core_schema

Schema = dict[str, Any]

_BOUNDS = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
_HOLDERS = {"properties", "items", "additionalProperties", "patternProperties"}
_LEFT_OUT = {"title", "$defs", "propertyNames"}


class _WithFactories(GenerateJsonSchema):
    """Defaults made by a factory are defaults too."""

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        if "default_factory" in schema:
            factory: Any = schema["default_factory"]
            return factory()
        return schema.get("default", NoDefault)

    def encode_default(self, dft: Any) -> Any:
        return TypeAdapter(Any).dump_python(dft, mode="json", by_alias=True, exclude_none=True)


def structural_schema(model: type[BaseModel]) -> Schema:
    """The schema of `model` as the API server accepts it."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_WithFactories)
    return _structural(schema, records=schema.get("$defs", {}))


def _structural(node: Schema, *, records: dict[str, Schema]) -> Schema:
    node = _written_out(node, records=records)
    found: Schema = {}
    for key, value in node.items():
        if key in _BOUNDS:
            found |= {_BOUNDS[key]: value, key: True}
        elif key in _HOLDERS:
            found |= _below(key, value, records=records)
        elif key == "const":
            found["enum"] = [value]
        elif key == "description":
            found[key] = " ".join(value.split())
        elif key not in _LEFT_OUT and (key, value) != ("default", None):
            found[key] = value
    if "propertyNames" in node:
        found["x-kubernetes-validations"] = [_rule_of_lengths(node["propertyNames"])]
    if "patternProperties" in node:
        found["x-kubernetes-validations"] = [_rule_of_form(*node["patternProperties"])]
    return found


def _below(key: str, value: Any, *, records: dict[str, Schema]) -> Schema:
    """What a record, list or mapping holds."""
    if key == "properties":
        children = {name: _structural(child, records=records) for name, child in value.items()}
        return {key: children}
    if key == "patternProperties":
        (kind,) = value.values()
        return {"additionalProperties": _structural(kind, records=records)}
    return {key: _structural(value, records=records)} if value else {}


def _written_out(node: Schema, *, records: dict[str, Schema]) -> Schema:
    """`node` without references and without the alternative null, which means not given."""
    if "anyOf" in node:
        given = [each for each in node["anyOf"] if each != {"type": "null"}]
        if len(given) != 1:
            raise ValueError(f"a structural schema has no alternatives: {node['anyOf']}")
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _written_out(given[0] | rest, records=records)
    if "$ref" in node:
        record = records[node["$ref"].removeprefix("#/$defs/")]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _written_out(record | rest, records=records)
    return node


def _rule_of_lengths(names: Schema) -> Schema:
    """The bounds of a mapping's keys, which a structural schema can only say as a rule."""
    least, most = names.get("minLength", 0), names["maxLength"]
    return {
        "rule": f"self.all(name, name.size() >= {least} && name.size() <= {most})",
        "message": f"every name has {least} to {most} characters",
    }


def _rule_of_form(pattern: str) -> Schema:
    """The form of a mapping's keys, likewise; in pieces, so that its line can be folded."""
    quoted = " + ".join(f"'{each}'" for each in re.split(r"(?<=\?)", pattern) if each)
    return {
        "rule": f"self.all(name, name.matches({quoted}))",
        "message": "every name is a label's: a domain and /, if any, then letters, digits, - _ .",
    }
