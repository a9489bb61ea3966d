"""The field reference, written from the models so that it cannot differ from them.

`make docs` writes `docs/reference/finetunejob.md` and `modelversion.md` from here; a test refuses a
stale page. One table for each record, where a reader first meets it.
"""

from collections.abc import Iterator
from typing import Any, get_args

from annotated_types import BaseMetadata
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tunesmith_api.base import ApiModel
from tunesmith_api.field_paths import records_in


def reference_page(title: str, roots: dict[str, type[ApiModel]]) -> str:
    """A Markdown page that lists every field below `roots`, a mapping of field path to model."""
    parts = [f"# {title}", "", "Written from the models by `make docs`; do not edit by hand.", ""]
    shown: set[type[BaseModel]] = set()
    for path, model in roots.items():
        for at, record in _records(path, model):
            if record not in shown:
                shown.add(record)
                parts += _table(at, record)
    return "\n".join(parts).rstrip() + "\n"


def _records(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for field in model.model_fields.values():
        for child, suffix in records_in(field.annotation):
            yield from _records(f"{path}.{field.alias}{suffix}", child)


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
    rows = [
        f"| `{field.alias}` | {_type(field)} | {_default(field)} | {_meaning(field)} |"
        for field in model.model_fields.values()
    ]
    return [*head, *rows, ""]


def _type(field: FieldInfo) -> str:
    return _type_name(field.annotation).replace("|", "\\|")


def _type_name(annotation: Any) -> str:
    arguments = [each for each in get_args(annotation) if each is not type(None)]
    origin = getattr(annotation, "__origin__", None)
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return "map of strings"
    if arguments and not hasattr(annotation, "__metadata__"):
        return " | ".join(_type_name(each) for each in arguments)
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
        return "; ".join(f"`{each.model_dump(by_alias=True, exclude_none=True)}`" for each in value)
    return f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    bounds = ", ".join(_bounds(field))
    text = field.description or ""
    return f"{text} {bounds}".strip().replace("|", "\\|")


def _bounds(field: FieldInfo) -> Iterator[str]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for rule in field.metadata:
        if isinstance(rule, BaseMetadata):
            yield from (
                f"{sign} {getattr(rule, name)}"
                for name, sign in signs.items()
                if hasattr(rule, name)
            )
