"""The space of `spec.search` as memory sees it: ranges and choices with values of their fields.

Which values a field takes is a matter of the stage, which tries each; here only their types count,
for a record has 16 where the manifest has 16.0, and a switch where it has the word "true".
"""

from collections.abc import Sequence
from typing import Any, Final, get_args

from tunesmith_api.field_paths import record_at
from tunesmith_api.finetunejob.search import MAXIMIZED, Parameter, Search
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.search_memory.records import Direction, Setting
from tunesmith_engine.search_memory.space import Choices, Dimension, Only, Range, Space

_SWITCHES: Final = {"true": True, "false": False}


def space_of(search: Search) -> Space:
    """The space that a search draws from."""
    dimensions = {each.field: _dimension(each) for each in search.parameters}
    conditions: dict[str, Only] = {
        each.field: Only(each.when.field, _values_beside(dimensions[each.when.field], each))
        for each in search.parameters
        if each.when is not None and each.when.field in dimensions
    }
    return Space(tuple(dimensions.values()), conditions)


def direction_of(search: Search) -> Direction:
    """Which way the first objective is better; memory is about that one."""
    return "maximize" if search.objectives[0].metric in MAXIMIZED else "minimize"


def _dimension(parameter: Parameter) -> Dimension:
    types = _types_of(parameter.field)
    if parameter.minimum is None or parameter.maximum is None:
        options = [*map(_number(types), parameter.values), *map(_word(types), parameter.choices)]
        return Choices(parameter.field, tuple(options))
    return Range(
        parameter.field,
        parameter.minimum,
        parameter.maximum,
        is_log=parameter.log,
        is_int=float not in types,
        step=parameter.step,
    )


def _number(types: Sequence[type]) -> Any:
    return float if float in types else int


def _word(types: Sequence[type]) -> Any:
    return lambda word: _SWITCHES.get(word, word) if bool in types else word


def _values_beside(other: Dimension, parameter: Parameter) -> frozenset[Setting]:
    """The values of a condition, which the manifest has as text."""
    texts = parameter.when.is_in if parameter.when else []
    if isinstance(other, Choices):
        return frozenset(each for each in other.options if _text(each) in texts)
    return frozenset(float(text) for text in texts if _is_number(text))


def _text(value: Setting) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _types_of(field: str) -> list[type]:
    """The plain types that a field of the spec takes."""
    *path, name = field.split(".")
    record = record_at(FineTuneJobSpec, tuple(path))
    fields = record.model_fields.values() if record else ()
    annotation = next((each.annotation for each in fields if each.alias == name), None)
    return [kind for kind in _plain(annotation) if kind in {bool, int, float, str}]


def _plain(annotation: Any) -> list[Any]:
    arguments = get_args(annotation)
    return [kind for each in arguments for kind in _plain(each)] if arguments else [annotation]
