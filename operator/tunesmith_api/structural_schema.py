"""A pydantic model as a structural OpenAPI v3 schema, the dialect that CRDs are written in.

Pydantic speaks JSON Schema 2020; the API server wants every `$ref` written out, no `anyOf` with
null, exclusive bounds as flags, and defaults beside the fields. `crds.py` adds rules and wraps the
outcome.
"""

import re
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, NoDefault
from pydantic_core import core_schema

Schema = dict[str, Any]

# OpenAPI v3.0 took exclusive bounds from draft 4: the bound, and a flag beside it.
_BOUNDS: Final = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
_HOLDERS: Final = {"properties", "items", "additionalProperties", "patternProperties"}
_LEFT_OUT: Final = {"title", "$defs", "propertyNames"}


class _WithFactories(GenerateJsonSchema):
    """Defaults made by a factory are defaults too."""

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        if "default_factory" in schema:
            factory: Any = schema["default_factory"]
            return factory()
        return schema.get("default", NoDefault)

    def encode_default(self, dft: Any) -> Any:
        # NB: records are spelt out with all their own defaults: the API server tries a default
        # against the rules before it fills in what is below it. None is left out: no field is
        # nullable.
        return TypeAdapter(Any).dump_python(dft, mode="json", by_alias=True, exclude_none=True)


def structural_schema(model: type[BaseModel]) -> Schema:
    """The schema of `model` as the API server accepts it.

    Raises:
        ValueError: a field has several types, which no structural schema can say.
    """
    schema = model.model_json_schema(by_alias=True, schema_generator=_WithFactories)
    return _structural(schema, records=schema.get("$defs", {}))


def _structural(node: Schema, *, records: dict[str, Schema]) -> Schema:
    node = _written_out(node, records=records)
    schema: Schema = {}
    for key, value in node.items():
        if key in _BOUNDS:
            schema |= {_BOUNDS[key]: value, key: True}
        elif key in _HOLDERS:
            schema |= _below(key, value, records=records)
        elif key == "const":
            schema["enum"] = [value]
        elif key == "description":
            schema[key] = " ".join(value.split())
        elif key not in _LEFT_OUT and (key, value) != ("default", None):
            schema[key] = value
    # The keys of a mapping have neither bounds nor a pattern in a structural schema, which knows
    # additionalProperties alone: they are told as rules.
    names = _written_out(node.get("propertyNames", {}), records=records)
    if "enum" in names:
        schema["x-kubernetes-validations"] = [
            {
                "rule": f"self.all(name, name in {names['enum']})",
                "message": f"every name is one of {', '.join(names['enum'])}",
            }
        ]
    elif names:
        least, most = names.get("minLength", 0), names["maxLength"]
        schema["x-kubernetes-validations"] = [
            {
                "rule": f"self.all(name, name.size() >= {least} && name.size() <= {most})",
                "message": f"every name has {least} to {most} characters",
            }
        ]
    if "patternProperties" in node:
        (pattern,) = node["patternProperties"]
        # In pieces, so that the line can be folded: yamllint has a limit for lines.
        quoted = " + ".join(f"'{piece}'" for piece in re.split(r"(?<=\?)", pattern) if piece)
        schema["x-kubernetes-validations"] = [
            {
                "rule": f"self.all(name, name.matches({quoted}))",
                "message": "every name is a label's: a domain and /, if any, "
                "then letters, digits, - _ .",
            }
        ]
    return schema


def _below(key: str, value: Any, *, records: dict[str, Schema]) -> Schema:
    """What a record, list or mapping holds."""
    if key == "properties":
        return {key: {name: _structural(child, records=records) for name, child in value.items()}}
    if key == "patternProperties":
        (kind,) = value.values()
        return {"additionalProperties": _structural(kind, records=records)}
    return {key: _structural(value, records=records)} if value else {}


def _written_out(node: Schema, *, records: dict[str, Schema]) -> Schema:
    """`node` without references and without the alternative null, which means not given.

    No field is nullable: the server takes a null out on creation as if it had not been given.
    """
    if "anyOf" in node:
        given = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
        if len(given) != 1:
            raise ValueError(f"a structural schema has no alternatives: {node['anyOf']}")
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _written_out(given[0] | rest, records=records)
    if "$ref" in node:
        # What stands beside the reference, such as the field's own description, wins.
        record = records[node["$ref"].removeprefix("#/$defs/")]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _written_out(record | rest, records=records)
    return node
