"""What the API server makes of an object under a CRD, worked out without a server.

In the server's order: unknown fields are refused, nulls taken out, defaults filled in, the schema
checked, and only then the CEL rules. `tests/cluster` holds the same manifests against a real
server, which is what makes this stand-in worth trusting.
"""

import copy
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import cel
from jsonschema import Draft4Validator, ValidationError, validators

Schema = dict[str, Any]


def refusals(schema: Schema, given: dict[str, Any]) -> list[str]:
    """Why a server would refuse `given`; empty if it would take it."""
    unknown = list(_unknown(schema, given, path=""))
    found = with_defaults(schema, given)
    # NB: OpenAPI v3 writes exclusive bounds as draft 4 did.
    broken = [error.message for error in _Validator(schema).iter_errors(found)]
    return unknown + (broken or list(_broken_rules(schema, _typed(schema, found), path="")))


def with_defaults(schema: Schema, given: Any) -> Any:
    """`given` as a server would store it."""
    if isinstance(given, list) and "items" in schema:
        return [with_defaults(schema["items"], each) for each in given]
    if not isinstance(given, dict):
        return given
    children: Schema = schema.get("properties", {})
    found = {key: value for key, value in given.items() if value is not None or key not in children}
    for key, child in children.items():
        if key not in found and "default" in child:
            found[key] = copy.deepcopy(child["default"])
    other: Schema = schema.get("additionalProperties", {})
    return {key: with_defaults(children.get(key, other), value) for key, value in found.items()}


def _unknown(schema: Schema, given: Any, *, path: str) -> Iterator[str]:
    if isinstance(given, list) and "items" in schema:
        for index, each in enumerate(given):
            yield from _unknown(schema["items"], each, path=f"{path}[{index}]")
    elif isinstance(given, dict) and "additionalProperties" in schema:
        for key, value in given.items():
            yield from _unknown(schema["additionalProperties"], value, path=f"{path}.{key}")
    elif isinstance(given, dict) and path != ".metadata":
        children: Schema = schema.get("properties", {})
        for key, value in given.items():
            if key in children:
                yield from _unknown(children[key], value, path=f"{path}.{key}")
            elif schema.get("type") == "object":
                yield f"unknown field {path}.{key}"


def _broken_rules(schema: Schema, given: Any, *, path: str) -> Iterator[str]:
    for each in schema.get("x-kubernetes-validations", []):
        is_transition = "oldSelf" in each["rule"]
        if not is_transition and not _holds(each["rule"], given):
            yield f"{path}{each.get('fieldPath', '')}: {each['message']}"
    if isinstance(given, list):
        for index, item in enumerate(given):
            yield from _broken_rules(schema["items"], item, path=f"{path}[{index}]")
    elif isinstance(given, dict):
        for key, child in schema.get("properties", {}).items():
            if key in given:
                yield from _broken_rules(child, given[key], path=f"{path}.{key}")


def _typed(schema: Schema, given: Any) -> Any:
    """`given` with the types of CEL, to which a number is a double however it was written."""
    if isinstance(given, list) and "items" in schema:
        return [_typed(schema["items"], item) for item in given]
    if isinstance(given, dict):
        children: Schema = schema.get("properties", {})
        other: Schema = schema.get("additionalProperties", {})
        return {key: _typed(children.get(key, other), value) for key, value in given.items()}
    return float(given) if schema.get("type") == "number" else given


def _holds(rule: str, given: Any) -> bool:
    try:
        return bool(_program(rule).execute({"self": given}))
    except KeyError:
        # As the server has it: a rule that cannot be evaluated does not hold.
        return False


@cache
def _program(rule: str) -> Any:
    return cel.compile(rule)


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """As Go matches: `$` is the end of the text, never the line break before it."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern}")


_Validator = validators.extend(Draft4Validator, {"pattern": _pattern})
