"""Which records lie below a record, and under which field; shared by pages and error messages."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

FieldPath = tuple[str | int, ...]


def records_in(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Every record that an annotation holds, with `[]` for one that stands in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
        return
    suffix = "[]" if getattr(annotation, "__origin__", None) is list else ""
    for argument in get_args(annotation):
        for record, inner in records_in(argument):
            yield record, suffix + inner


def record_at(root: type[BaseModel], path: FieldPath) -> type[BaseModel] | None:
    """The record that holds the fields below `path`, or None where no record is."""
    record: type[BaseModel] | None = root
    for part in path:
        if isinstance(part, str) and record is not None:
            record = dict(_records_below(record)).get(part)
    return record


def paths_of(root: type[BaseModel], name: str) -> list[str]:
    """Where a field called `name` exists below `root`."""
    found = [f"{field.alias}" for field in root.model_fields.values() if field.alias == name]
    for child, record in _records_below(root):
        found += [f"{child}.{each}" for each in paths_of(record, name)]
    return found


def dotted(path: FieldPath) -> str:
    """A path as people write it: `spec.evaluation.gates[0].metric`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _records_below(record: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for field in record.model_fields.values():
        for child, _ in records_in(field.annotation):
            yield f"{field.alias}", child
