"""Paths of fields, and which records lie below a record.

Shared by the rules, the CRDs, the messages of errors, the reference pages and the walks over a
spec. Types are walked for what could be there, objects for what was given. A dotted path is written
in the names of manifests.
"""

from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel

FieldPath = tuple[str | int, ...]

Record = TypeVar("Record", bound=BaseModel)


def dotted(path: FieldPath) -> str:
    """A path as people write it: `spec.evaluation.gates[0].metric`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def records_of(
    holder: object, *kinds: type[Record], path: FieldPath = ()
) -> Iterator[tuple[FieldPath, Record]]:
    """Every record of these types in an object, in the order of its fields."""
    if isinstance(holder, kinds):
        yield path, holder
    if isinstance(holder, BaseModel):
        for name, field in type(holder).model_fields.items():
            child = getattr(holder, name)
            yield from records_of(child, *kinds, path=(*path, f"{field.alias}"))
    elif isinstance(holder, list | dict):
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, child in items:
            yield from records_of(child, *kinds, path=(*path, key))


def record_paths(root: type[BaseModel], *kinds: type[BaseModel]) -> Iterator[str]:
    """Where records of these types can be below `root`, `*` standing for each item of a list."""
    for field in root.model_fields.values():
        for record, suffix in records_in(field.annotation):
            path = f"{field.alias}{suffix.replace('[]', '.*')}"
            if issubclass(record, kinds):
                yield path
            yield from (f"{path}.{below}" for below in record_paths(record, *kinds))


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
    record = root
    names = (part for part in path if isinstance(part, str))
    for name in names:
        field = next((of for of in record.model_fields.values() if of.alias == name), None)
        below = next(records_in(field.annotation), None) if field else None
        if field is None or below is None:
            return None
        record = below[0]
        if is_mapping(field.annotation):
            # A name in a mapping is no field, although it may be called like one.
            next(names, None)
    return record


def is_mapping(annotation: Any) -> bool:
    """Whether what it holds stands below names that are no fields."""
    origin = get_origin(annotation)
    return origin is dict or (origin is not list and any(map(is_mapping, get_args(annotation))))


def paths_of(root: type[BaseModel], name: str) -> Iterator[str]:
    """Where a field called `name` can be below `root`: in itself, then in each record in turn."""
    yield from (f"{field.alias}" for field in root.model_fields.values() if field.alias == name)
    for child, record in _records_below(root):
        yield from (f"{child}.{path}" for path in paths_of(record, name))


def _records_below(record: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for field in record.model_fields.values():
        for child, _ in records_in(field.annotation):
            yield f"{field.alias}", child
