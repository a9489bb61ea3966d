"""What is wrong with a field, in words: what was given, the rule it broke, what to do.

`manifest.py` finds the problems with the models and asks here for the message of each.
"""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import JsonValue
from pydantic_core import ErrorDetails

from tunesmith_api.field_paths import FieldPath, paths_of, record_at
from tunesmith_api.field_types import (
    BYTES_PATTERN,
    EXTENDED_RESOURCE_PATTERN,
    LABEL_KEY_PATTERN,
    LABEL_VALUE_PATTERN,
    PROCESSORS_PATTERN,
)
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.uris import SOURCE_PATTERN, TARGET_PATTERN

REFERENCE = "docs/reference/finetunejob.md"

_SHOWN_CHARACTERS = 60

_WANTED = {
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "dict_type": "a mapping of names to text",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
_LIMITS = {
    "greater_than": ("gt", "is too small: more than {} is needed; raise it"),
    "greater_than_equal": ("ge", "is too small: at least {} is needed; raise it"),
    "less_than": ("lt", "is too large: less than {} is needed; lower it"),
    "less_than_equal": ("le", "is too large: at most {} is allowed; lower it"),
    "string_too_short": ("min_length", "is too short: at least {} characters; write it out"),
    "string_too_long": ("max_length", "is too long: at most {} characters; shorten it"),
    "too_short": ("min_length", "is too little: at least {} are needed; add some, or leave it out"),
    "too_long": ("max_length", "is too much: at most {} are allowed; remove some"),
}
_FORMS = {
    SOURCE_PATTERN: "is no place to read from; start it with hf://, s3://, gs://, https://, "
    "file:// or python://, and write spaces as %20",
    TARGET_PATTERN: "is no place to write to; start it with s3://, gs://, abfs://, az:// or "
    "file://, and write spaces as %20",
    LABEL_KEY_PATTERN: "is no label's name; use letters, digits, - _ and . (at most 63), "
    "after an optional domain and /",
    LABEL_VALUE_PATTERN: "is no label's value; use letters, digits, - _ and . (at most 63)",
    EXTENDED_RESOURCE_PATTERN: "is no resource of nodes; write its domain and name, such as "
    "nvidia.com/gpu",
    PROCESSORS_PATTERN: 'is no number of processors; write "4" or "500m"',
    BYTES_PATTERN: "is no size; write a whole number with Mi, Gi or Ti, such as 16Gi",
}
_NAME_FORM = (
    "breaks the form of a name: use a-z, 0-9 and - only, starting and ending with a letter or digit"
)


def complaint(details: ErrorDetails, *, path: FieldPath) -> str:
    """The message for one error of the models about the field at `path`."""
    kind, given = details["type"], details["input"]
    if kind == "missing":
        return f"required, but not given; add it ({REFERENCE} says what it takes)"
    if kind == "extra_forbidden":
        return _unknown_field(path)
    if kind in _WANTED:
        return _wrong_type(given, wanted=_WANTED[kind])
    if kind == "broken_rule":
        return details["msg"]
    return f"{_shown(given)} {_broken_bound(kind, details.get('ctx', {}), given=given)}"


def near_match(given: str, known: Iterable[str]) -> str | None:
    """The known word that `given` was probably meant to be."""
    by_letters = {_letters(each): each for each in known}
    found = get_close_matches(_letters(given), by_letters, n=1, cutoff=0.7)
    return by_letters[found[0]] if found else None


def _broken_bound(kind: str, context: dict[str, Any], *, given: JsonValue) -> str:
    if kind == "literal_error":
        return _no_choice(given, expected=context["expected"])
    if kind == "string_pattern_mismatch":
        return _FORMS.get(context["pattern"], _NAME_FORM)
    if kind == "finite_number":
        return "is no number to count with; write a finite one"
    limit, text = _LIMITS[kind]
    return text.format(context[limit])


def _unknown_field(path: FieldPath) -> str:
    name = str(path[-1])
    record = record_at(FineTuneJob, path[:-1])
    siblings = [f"{each.alias}" for each in record.model_fields.values()] if record else []
    near = near_match(name, siblings)
    if near:
        return f"unknown field; did you mean '{near}'?"
    elsewhere = paths_of(FineTuneJobSpec, name)
    if elsewhere:
        return f"unknown field; did you mean spec.{elsewhere[0]}?"
    return f"unknown field; known here: {', '.join(siblings)}"


def _no_choice(given: JsonValue, *, expected: str) -> str:
    choices = re.findall(r"'([^']*)'|(\d+)", expected)
    known = [text or number for text, number in choices]
    near = near_match(str(given), known)
    hint = f"; did you mean '{near}'?" if near else "; choose one of them"
    return f"is none of {', '.join(known)}{hint}"


def _wrong_type(given: JsonValue, *, wanted: str) -> str:
    if wanted == "text":
        return f"{_shown(given)} is {_kind(given)}, not text; put it in quotes"
    if isinstance(given, str) and _reads_as(given, wanted=wanted):
        return f"{_shown(given)} is text, not {wanted}; leave out the quotes"
    return f"{_shown(given)} is {_kind(given)}, not {wanted}; {REFERENCE} says what it takes"


def _reads_as(text: str, *, wanted: str) -> bool:
    if wanted == "true or false":
        return text in {"true", "false"}
    pattern = r"[-+]?\d+" if wanted == "a whole number" else r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?"
    return re.fullmatch(pattern, text) is not None


def _kind(given: JsonValue) -> str:
    kinds = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a mapping",
    }
    return kinds.get(type(given), "empty")


def _shown(given: JsonValue) -> str:
    """The value as YAML writes it, cut short."""
    if isinstance(given, dict | list):
        return f"what is given ({len(given)} entries)"
    if isinstance(given, str):
        text = given if len(given) <= _SHOWN_CHARACTERS else f"{given[:_SHOWN_CHARACTERS]}…"
        return repr(text)
    return json.dumps(given)


def _letters(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()
