"""Every setting of a job as it will be used, and who decided it.

The defaults themselves stand beside their fields in `tunesmith_api.finetunejob`, with the marks
that are read here. `describe` is what `tunesmith plan` prints; `settled` is what the status shows
as resolved before any stage has run.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from tunesmith_api.field_markers import ClusterOnly, DecidedLater, PlannedDefault
from tunesmith_api.finetunejob.spec import FineTuneJobSpec

Mark = TypeVar("Mark")


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a job as it will be used.

    `path` is below `spec`, such as training.lora.alpha. `value` is its text or, where `origin` is
    `open`, the rule by which a stage will decide. `is_for_clusters` says that a run on one machine
    takes no notice of it.
    """

    path: str
    value: str
    origin: Literal["given", "default", "open"]
    is_for_clusters: bool = False


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A field that is no record itself, and the record that holds it."""

    path: str
    value: Any
    field: FieldInfo
    holder: BaseModel
    is_given: bool
    is_for_clusters: bool


def describe(spec: FineTuneJobSpec) -> tuple[Setting, ...]:
    """Every setting of a job, in the order of the reference page.

    `spec` is as the manifest gave it; fields that do not concern the job are left out.
    """
    return tuple(_settings(spec))


def settled(spec: FineTuneJobSpec) -> dict[str, str]:
    """What planning decided, or the manifest gave, for the fields that planning can decide."""
    return {
        leaf.path: _text(leaf.value)
        for leaf in _leaves(spec, spec.with_defaults())
        if _mark(leaf.field, PlannedDefault) and leaf.value is not None
    }


def _settings(spec: FineTuneJobSpec) -> Iterator[Setting]:
    for leaf in _leaves(spec, spec.with_defaults()):
        later = _mark(leaf.field, DecidedLater)
        if leaf.value is not None:
            origin: Literal["given", "default"] = "given" if leaf.is_given else "default"
            yield Setting(leaf.path, _text(leaf.value), origin, leaf.is_for_clusters)
        elif later is not None and later.applies(leaf.holder):
            yield Setting(leaf.path, later.rule, "open", leaf.is_for_clusters)


def _leaves(
    given: BaseModel,
    filled: BaseModel,
    *,
    prefix: str = "",
    is_given: bool = True,
    is_for_clusters: bool = False,
) -> Iterator[_Leaf]:
    """Every leaf of `filled`, which is `given` with its defaults.

    Both are walked side by side: a copy with defaults no longer knows which of them were given.
    """
    for name, field in type(filled).model_fields.items():
        path = f"{prefix}{field.alias}"
        before, after = getattr(given, name), getattr(filled, name)
        is_named = is_given and name in given.model_fields_set and before is not None
        is_theirs = is_for_clusters or _mark(field, ClusterOnly) is not None
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from _leaves(
                before, after, prefix=f"{path}.", is_given=is_named, is_for_clusters=is_theirs
            )
        else:
            yield _Leaf(path, after, field, filled, is_named, is_theirs)


def _mark(field: FieldInfo, kind: type[Mark]) -> Mark | None:
    return next((mark for mark in field.metadata if isinstance(mark, kind)), None)


def _text(value: Any) -> str:
    """A number or word as it stands; what has structure as JSON without its unset fields."""
    plain = to_jsonable_python(value, by_alias=True, exclude_none=True)
    return plain if isinstance(plain, str) else json.dumps(plain)
