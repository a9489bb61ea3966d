"""What is wrong with a field, in words: what was given, the rule it broke, what to do.

The models find the errors; `manifest.py` and the operator ask here for the message of each.
"""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, JsonValue
from pydantic_core import ErrorDetails

from tunesmith_api.endpoint import ENDPOINT_PATTERN
from tunesmith_api.field_paths import FieldPath, paths_of, record_at
from tunesmith_api.field_reference import page_name
from tunesmith_api.field_types import (
    BYTES_PATTERN,
    EXTENDED_RESOURCE_PATTERN,
    LABEL_KEY_PATTERN,
    LABEL_VALUE_PATTERN,
    PROCESSORS_PATTERN,
)
from tunesmith_api.rules import BROKEN_RULE
from tunesmith_api.uris import (
    FOLDER_PATTERN,
    SOURCE_PATTERN,
    STORE_PATTERN,
    TARGET_PATTERN,
    redacted,
)

_SHOWN_CHARACTERS: Final = 60
# A word that shares seven letters of ten with a known one is a misspelling of it.
_SIMILARITY: Final = 0.7

_GIVEN_TYPES: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}
# By pydantic's own names of errors, as in https://docs.pydantic.dev/latest/errors/validation_errors.
_WANTED_TYPES: Final = {
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
# Text that would have been the wanted value, had it not been quoted.
_UNQUOTED: Final = {
    "true or false": r"true|false",
    "a whole number": r"[-+]?\d+",
    "a number": r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?",
}
_LIMITS: Final = {
    "greater_than": ("gt", "is too small: more than {} is needed; raise it"),
    "greater_than_equal": ("ge", "is too small: at least {} is needed; raise it"),
    "less_than": ("lt", "is too large: less than {} is needed; lower it"),
    "less_than_equal": ("le", "is too large: at most {} is allowed; lower it"),
    "string_too_short": ("min_length", "is too short: at least {} characters; write it out"),
    "string_too_long": ("max_length", "is too long: at most {} characters; shorten it"),
    "too_short": ("min_length", "is too little: at least {} are needed; add some, or leave it out"),
    "too_long": ("max_length", "is too much: at most {} are allowed; remove some"),
}
_WITH_KEYS: Final = (
    "holds a user, a password or a query, which would be shown wherever the address is; put "
    "credentials into the secret that secretRef names, and sign no address"
)
_FORMS: Final = {
    SOURCE_PATTERN: "is no place to read from; start it with hf://, s3://, gs://, https://, "
    "file:// or python://, and write spaces as %20",
    TARGET_PATTERN: "is no place to write to; start it with hf://, oci://, s3://, gs://, "
    "abfs://, az:// or file://, and write spaces as %20",
    FOLDER_PATTERN: "is no folder to read; start it with s3://, gs://, file:// or python://, and "
    "write spaces as %20",
    STORE_PATTERN: "is no object store; start it with s3://, gs://, abfs:// or az://, and write "
    "spaces as %20",
    ENDPOINT_PATTERN: "is no address of an API; start it with https:// or http://",
    LABEL_KEY_PATTERN: "is no label's name; use letters, digits, - _ and . (at most 63), "
    "after an optional domain and /",
    LABEL_VALUE_PATTERN: "is no label's value; use letters, digits, - _ and . (at most 63)",
    EXTENDED_RESOURCE_PATTERN: "is no resource of nodes; write its domain and name, such as "
    "nvidia.com/gpu",
    PROCESSORS_PATTERN: 'is no number of processors; write "4" or "500m"',
    BYTES_PATTERN: "is no size; write a whole number with Mi, Gi or Ti, such as 16Gi",
}
_NAME_FORM: Final = (
    "breaks the form of a name: use a-z, 0-9 and - only, starting and ending with a letter or digit"
)


def error_path(details: ErrorDetails) -> FieldPath:
    """The field that an error is about.

    Of a mapping's key pydantic gives the key and then `[key]`, which is no field.
    """
    return tuple(part for part in details["loc"] if part != "[key]")


def error_message(details: ErrorDetails, *, model: type[BaseModel]) -> str:
    """The message for one error that `model`, which is a whole resource, has found."""
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    page = f"docs/reference/{page_name(model)}"
    if kind == BROKEN_RULE:
        return details["msg"]
    if kind == "value_error":
        # A validator of ours, which has said it all.
        return str(context["error"])
    if kind == "missing":
        return f"required, but not given; add it ({page} says what it takes)"
    if kind == "extra_forbidden":
        return _unknown_field(error_path(details), model=model)
    if kind in _WANTED_TYPES:
        is_secret = "secretRef" in details["loc"]
        return _wrong_type(given, wanted=_WANTED_TYPES[kind], page=page, is_secret=is_secret)
    # Where the name of a secret belongs, people put the secret itself.
    is_secret = "secretRef" in details["loc"]
    shown = "what is given" if is_secret else _shown(given)
    return f"{shown} {_broken_bound(kind, context, given=given)}"


def near_match(given: str, known: Iterable[str]) -> str | None:
    """The known word that `given` was probably meant to be."""
    by_letters = {_letters(word): word for word in known}
    nearest = get_close_matches(_letters(given), by_letters, n=1, cutoff=_SIMILARITY)
    return by_letters[nearest[0]] if nearest else None


def _broken_bound(kind: str, context: dict[str, Any], *, given: JsonValue) -> str:
    if kind == "string_pattern_mismatch":
        if redacted(str(given)) != given:
            return _WITH_KEYS
        return _FORMS.get(context["pattern"], _NAME_FORM)
    if kind == "finite_number":
        return "is no number to count with; write a finite one"
    if kind == "literal_error":
        # Pydantic has no list of the choices: only its sentence, such as `'lora' or 'full'`.
        pairs = re.findall(r"'([^']*)'|(\d+)", context["expected"])
        choices = [text or number for text, number in pairs]
        near = near_match(str(given), choices)
        hint = f"; did you mean '{near}'?" if near else "; choose one of them"
        return f"is none of {', '.join(choices)}{hint}"
    bound, text = _LIMITS[kind]
    return text.format(context[bound])


def _unknown_field(path: FieldPath, *, model: type[BaseModel]) -> str:
    name = str(path[-1])
    record = record_at(model, path[:-1])
    siblings = [f"{field.alias}" for field in record.model_fields.values()] if record else []
    near = near_match(name, siblings)
    if near:
        return f"unknown field; did you mean '{near}'?"
    spec = record_at(model, ("spec",))
    elsewhere = next(paths_of(spec, name), None) if spec else None
    if elsewhere:
        return f"unknown field; did you mean spec.{elsewhere}?"
    return f"unknown field; known here: {', '.join(siblings)}"


def _wrong_type(given: JsonValue, *, wanted: str, page: str, is_secret: bool) -> str:
    shown = "what is given" if is_secret else _shown(given)
    given_type = _GIVEN_TYPES.get(type(given), "empty")
    if wanted == "text":
        return f"{shown} is {given_type}, not text; put it in quotes"
    if isinstance(given, str) and re.fullmatch(_UNQUOTED.get(wanted, "(?!)"), given):
        return f"{shown} is text, not {wanted}; leave out the quotes"
    return f"{shown} is {given_type}, not {wanted}; {page} says what it takes"


def _shown(given: JsonValue) -> str:
    """The value as YAML writes it, cut short."""
    if isinstance(given, dict | list):
        return f"what is given ({len(given)} entries)"
    if isinstance(given, str):
        text = redacted(given)
        return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")
    return json.dumps(given)


def _letters(word: str) -> str:
    """What is compared: max_steps and max-steps were meant to be maxSteps."""
    return word.replace("_", "").replace("-", "").lower()
