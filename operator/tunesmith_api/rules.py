"""Rules across fields, written once: for the models in Python, for the API server in CEL.

Each kind has a table of them. `check_rules` holds a resource that was read to its table, `crds.py`
writes the table into the CRD, and a property test holds both to the same verdict. Rules about one
field alone stand at the field, as its type and bounds.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_snake
from pydantic_core import InitErrorDetails, PydanticCustomError

from tunesmith_api.base import ApiModel
from tunesmith_api.field_paths import FieldPath

BROKEN_RULE = "broken_rule"

Holder = TypeVar("Holder")


@dataclass(frozen=True, slots=True)
class Rule(Generic[Holder]):
    """One rule across the fields of one object.

    `scopes` are the places of that object below `spec`, `*` standing for every item of a list.
    `holds` sees the object, `cel` sees it as `self`. `field` is what the error points at.

    NB: `Rule[Training](...)` fails in Python 3.11, where a frozen dataclass with slots refuses the
    attribute that typing sets on it. Annotate the tuple of rules instead.
    """

    name: str
    scopes: tuple[str, ...]
    field: str
    holds: Callable[[Holder], bool]
    cel: str
    message: str


@dataclass(frozen=True, slots=True)
class TransitionRule:
    """What an update may change; for the API server alone, which knows the object before it.

    `scope` is a place of the whole object, whose former value `cel` sees as `oldSelf`. The server
    evaluates such a rule on updates only.
    """

    scope: str
    field: str
    cel: str
    message: str


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule that an object breaks, and the path of the field to mend, below `spec`."""

    rule: Rule[Any]
    path: FieldPath


def broken_rules(spec: BaseModel, rules: Iterable[Rule[Any]]) -> list[BrokenRule]:
    """Every rule that `spec` breaks, in the order of the table."""
    return [
        BrokenRule(rule=rule, path=(*path, *path_parts(rule.field)))
        for rule in rules
        for scope in rule.scopes
        for path, holder in _objects_at(spec, path_parts(scope))
        if not rule.holds(holder)
    ]


def check_rules(resource: ApiModel, spec: BaseModel, rules: Iterable[Rule[Any]]) -> None:
    """Return if the `spec` of `resource` keeps the rules; for a validator of the whole resource.

    Raises:
        pydantic.ValidationError: one error for each rule that is broken, at the field to mend, so
            that they reach people in the same way as errors of a single field.
    """
    errors = [
        InitErrorDetails(
            # The message is a parameter: pydantic would read braces in it as fields to fill in.
            type=PydanticCustomError(BROKEN_RULE, "{message}", {"message": broken.rule.message}),
            loc=("spec", *broken.path),
            input=spec,
        )
        for broken in broken_rules(spec, rules)
    ]
    if errors:
        raise ValidationError.from_exception_data(type(resource).__name__, errors)


@cache
def path_parts(dotted: str) -> tuple[str, ...]:
    """The names in a scope or field path; none for the empty one, which is the object itself."""
    return tuple(dotted.split(".")) if dotted else ()


# A few hundred names, asked for at each look at each object: a tenth of the operator's time was
# spent on their letters.
_attribute = cache(to_snake)


def _objects_at(
    holder: object, scope: tuple[str, ...], path: FieldPath = ()
) -> Iterator[tuple[FieldPath, object]]:
    if not scope:
        yield path, holder
        return
    first, rest = scope[0], scope[1:]
    if first == "*" and isinstance(holder, list):
        for index, item in enumerate(holder):
            yield from _objects_at(item, rest, (*path, index))
    elif isinstance(holder, BaseModel):
        child = getattr(holder, _attribute(first))
        # What was not given keeps every rule, as on the server, which has no node to try it at.
        if child is not None:
            yield from _objects_at(child, rest, (*path, first))
