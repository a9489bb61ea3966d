"""The field reference, written from the models so that it cannot differ from them.

`make docs` writes a page of `docs/reference/` for each kind from here; a test refuses a stale page.
One table for each record, where a reader first meets it.
"""

from collections.abc import Iterator
from typing import Any, get_args

from annotated_types import BaseMetadata
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tunesmith_api.field_paths import is_mapping, records_in


def page_name(model: type[BaseModel]) -> str:
    """The file of a kind's page in `docs/reference/`, which messages of errors name, too."""
    return f"{model.__name__.lower()}.md"


def reference_page(model: type[BaseModel]) -> str:
    """A Markdown page that lists every field of a kind's spec and status."""
    parts = [
        f"# {model.__name__}",
        "",
        "Written from the models by `make docs`; do not edit by hand.",
        "",
    ]
    shown: set[type[BaseModel]] = set()
    for path, record in _records(model):
        if path.startswith(("spec", "status")) and record not in shown:
            shown.add(record)
            parts += _table(path, record)
    return "\n".join(parts).rstrip() + "\n"


def _records(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    for field in model.model_fields.values():
        for record, suffix in records_in(field.annotation):
            name = ".NAME" if is_mapping(field.annotation) else ""
            path = f"{prefix}{field.alias}{suffix}{name}"
            yield path, record
            yield from _records(record, f"{path}.")


def _table(path: str, model: type[BaseModel]) -> list[str]:
    about = (model.__doc__ or "").strip().split("\n\n")[0]
    head = [
        f"## {path}",
        "",
        about,
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
    ]
    rows = []
    for field in model.model_fields.values():
        # A bar within a cell would end it.
        type_name = _type_name(field.annotation).replace("|", "\\|")
        meaning = " ".join(filter(None, (field.description, ", ".join(_bounds(field)))))
        meaning = meaning.replace("|", "\\|")
        rows.append(f"| `{field.alias}` | {type_name} | {_default(field)} | {meaning} |")
    return [*head, *rows, ""]


def _type_name(annotation: Any) -> str:
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    origin = getattr(annotation, "__origin__", None)
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        record = next(records_in(arguments[1]), None)
        return f"map of {record[0].__name__}" if record else "map of strings"
    if arguments and not hasattr(annotation, "__metadata__"):
        return " | ".join(map(_type_name, arguments))
    if hasattr(annotation, "__metadata__"):
        return _type_name(arguments[0])
    if isinstance(annotation, str):
        return f"`{annotation}`"
    names = {int: "integer", float: "number", bool: "true or false", str: "string"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return "; ".join(f"`{item.model_dump(by_alias=True, exclude_none=True)}`" for item in value)
    if isinstance(value, dict) and any(isinstance(item, BaseModel) for item in value.values()):
        return ", ".join(f"`{name}`" for name in value)
    return f"`{value}`"


def _bounds(field: FieldInfo) -> Iterator[str]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for rule in _rules(field):
        if isinstance(rule, BaseMetadata):
            yield from (
                f"{sign} {getattr(rule, name)}"
                for name, sign in signs.items()
                if hasattr(rule, name)
            )


def _rules(field: FieldInfo) -> Iterator[object]:
    """Those of the field, and of a value that may be left out (`Annotated[int, ...] | None`)."""
    yield from field.metadata
    for option in get_args(field.annotation):
        for rule in getattr(option, "__metadata__", ()):
            yield from rule.metadata if isinstance(rule, FieldInfo) else (rule,)
