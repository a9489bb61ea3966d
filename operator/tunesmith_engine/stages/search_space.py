"""The space of a search: what `spec.search.parameters` means in the models of `spec.training`.

`tunesmith plan` and the stage ask here whether a space is sound; every value is tried in the spec's
own models, so that their bounds stand nowhere else. Pure.
"""

import json
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from tunesmith_api.finetunejob.rules import RULES
from tunesmith_api.finetunejob.search import Parameter, Search
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Training
from tunesmith_api.reasons import Reason
from tunesmith_api.rules import broken_rules
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.trial_records import ParameterValue

Parameters = dict[str, ParameterValue]
Kind = Literal["float", "int", "choice"]

_PREFIX: Final = "training."
# Each of these says when training ends; a search of one takes the place of the other.
_LENGTHS: Final = {"training.epochs": "maxSteps", "training.maxSteps": "epochs"}
_WHOLE_NUMBERS: Final = "a whole number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One parameter: a range of numbers, or values to choose from.

    `is_in` are the texts of the values of `depends_on` beside which it is searched.
    """

    field: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_log: bool = False
    choices: tuple[ParameterValue, ...] = ()
    depends_on: str | None = None
    is_in: tuple[str, ...] = ()

    def is_active(self, parameters: Mapping[str, ParameterValue]) -> bool:
        """Whether it is searched beside these values."""
        return self.depends_on is None or as_text(parameters[self.depends_on]) in self.is_in

    @property
    def grid(self) -> tuple[ParameterValue, ...]:
        """Every value, in order; of a range with a step."""
        if self.kind == "choice" or self.step is None:
            return self.choices
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        values = [self.low + index * self.step for index in range(count)]
        return tuple(round(value) if self.kind == "int" else value for value in values)


def as_text(value: ParameterValue) -> str:
    """A value as `when.isIn` has it: words as they are, the others as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def search_space(spec: FineTuneJobSpec) -> tuple[Dimension, ...]:
    """The dimensions of the job's search, those with a condition last.

    Raises:
        BadInputError: a field cannot have a value of its space, or the space contradicts itself.
    """
    search = _search(spec)
    found = [
        _dimension(parameter, spec, path=f"search.parameters[{index}]")
        for index, parameter in enumerate(search.parameters)
    ]
    _refuse_contradictions(found, spec)
    return tuple(sorted(found, key=lambda dimension: dimension.depends_on is not None))


def refuse_unsound_search(spec: FineTuneJobSpec) -> None:
    """Return if the job has no search, or one whose space is sound and whose grid is affordable.

    Raises:
        BadInputError: as `search_space` and `grid_of` do.
    """
    if spec.search is None:
        return
    space = search_space(spec.with_defaults())
    if spec.search.method == "grid":
        grid_of(space, max_trials=spec.search.budget.max_trials)


def grid_of(space: Iterable[Dimension], *, max_trials: int) -> list[Parameters]:
    """Every combination, in order; those that differ in what is not searched count once.

    Raises:
        BadInputError: there are more than the budget has trials.
    """
    listed = list(space)
    num_combinations = math.prod(len(dimension.grid) for dimension in listed)
    # NB: counted before it is written out: sixteen parameters of 64 values fill no memory.
    if num_combinations > max_trials * math.prod(
        len(dimension.grid) for dimension in listed if dimension.depends_on
    ):
        raise _large_grid(num_combinations, max_trials)
    combinations: dict[str, Parameters] = {}
    for values in product(*(dimension.grid for dimension in listed)):
        given = dict(zip((dimension.field for dimension in listed), values, strict=True))
        active = {each.field: given[each.field] for each in listed if each.is_active(given)}
        combinations.setdefault(json.dumps(active, sort_keys=True), active)
    if len(combinations) > max_trials:
        raise _large_grid(len(combinations), max_trials)
    return list(combinations.values())


def with_parameters(
    spec: FineTuneJobSpec, parameters: Mapping[str, ParameterValue]
) -> FineTuneJobSpec:
    """The spec with these values, by field path, and with the defaults that follow from them.

    Raises:
        BadInputError: a field cannot have its value, or they do not go together.
    """
    training = _training(spec, parameters)
    changed = spec.model_copy(update={"training": training})
    broken = broken_rules(changed, RULES)
    if broken:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"search.parameters: {_told(parameters)}: {broken[0].rule.message}",
        )
    return changed


def _search(spec: FineTuneJobSpec) -> Search:
    if spec.search is None:
        raise ValueError("the job has no search")
    return spec.search


def _training(spec: FineTuneJobSpec, parameters: Mapping[str, ParameterValue]) -> Training:
    given = spec.training.model_dump(mode="json", by_alias=True, exclude_none=True)
    lora = spec.training.lora
    if lora.alpha == lora.model_copy(update={"alpha": None}).with_defaults().alpha:
        # A default follows the rank that it was made from.
        given["lora"].pop("alpha", None)
    for field, value in parameters.items():
        given.pop(_LENGTHS.get(field, ""), None)
        *records, name = field.removeprefix(_PREFIX).split(".")
        holder = given
        for record in records:
            holder = holder.setdefault(record, {})
        holder[name] = value
    try:
        return Training.model_validate(given).with_defaults()
    except ValidationError as error:
        told = error.errors()[0]
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"search.parameters: {_told(parameters)}: {told['msg']}; give values that the field "
            "can have",
        ) from error


def _dimension(parameter: Parameter, spec: FineTuneJobSpec, *, path: str) -> Dimension:
    kind = _type_of(parameter.field)
    values = _values(parameter, kind, path=path)
    for value in values:
        try:
            _training(spec, {parameter.field: value})
        except BadInputError as error:
            message = error.message.removeprefix("search.parameters: ")
            raise BadInputError(error.reason, f"{path}: {message}") from error
    when = parameter.when
    condition: dict[str, Any] = (
        {"depends_on": when.field, "is_in": tuple(when.is_in)} if when is not None else {}
    )
    if parameter.minimum is None or parameter.maximum is None:
        return Dimension(field=parameter.field, kind="choice", choices=tuple(values), **condition)
    _refuse_fractions(parameter, kind, path=path)
    return Dimension(
        field=parameter.field,
        kind="int" if kind is int else "float",
        low=parameter.minimum,
        high=parameter.maximum,
        step=parameter.step,
        is_log=parameter.log,
        **condition,
    )


def _values(parameter: Parameter, kind: type, *, path: str) -> list[ParameterValue]:
    """What the space holds, or its ends, in the type of the field."""
    words = parameter.choices
    if kind in {bool, str}:
        if not words:
            wanted = '"true" and "false"' if kind is bool else "words"
            raise _unfit(path, f"{parameter.field} is no number; give {wanted} as choices")
        if kind is str:
            return list(words)
        if not set(words) <= {"true", "false"}:
            raise _unfit(path, f'{parameter.field} is a switch; give "true" and "false" as choices')
        return [word == "true" for word in words]
    if words:
        raise _unfit(path, f"{parameter.field} is a number; give values in place of choices")
    ends = [end for end in (parameter.minimum, parameter.maximum) if end is not None]
    numbers = parameter.values or ends
    if kind is float:
        return list(numbers)
    if any(number != int(number) for number in numbers):
        raise _unfit(path, f"{parameter.field} is {_WHOLE_NUMBERS}; give no fractions")
    return [int(number) for number in numbers]


def _refuse_fractions(parameter: Parameter, kind: type, *, path: str) -> None:
    if kind is int and parameter.step is not None and parameter.step != int(parameter.step):
        raise _unfit(path, f"{parameter.field} is {_WHOLE_NUMBERS}; give a whole step")
    width = (parameter.maximum or 0.0) - (parameter.minimum or 0.0)
    if parameter.step is not None and parameter.step > width:
        raise _unfit(path, f"step {parameter.step:g} is wider than the range; lower it")


def _refuse_contradictions(found: list[Dimension], spec: FineTuneJobSpec) -> None:
    fields = {dimension.field: dimension for dimension in found}
    if set(_LENGTHS) <= set(fields):
        raise _unfit(
            "search.parameters", "epochs and maxSteps both say when training ends; search one"
        )
    adapters = [field for field in fields if field.startswith("training.lora.")]
    if adapters and spec.training.method == "full":
        raise _unfit(
            "search.parameters", f"{adapters[0]}: method: full has no adapters; leave it out"
        )
    for dimension in found:
        if dimension.depends_on is None:
            continue
        parent = fields[dimension.depends_on]
        known = {as_text(value) for value in parent.grid}
        missing = [word for word in dimension.is_in if word not in known]
        if missing:
            raise _unfit(
                "search.parameters",
                f"{dimension.field} is searched when {parent.field} is {missing[0]}, and it never "
                f"is; name one of {', '.join(sorted(known)) or 'its choices, not of a range'}",
            )


def _type_of(field: str) -> type:
    """bool, int, float or str: what the field holds; a set of words counts as str."""
    holder: Any = Training
    annotation: Any = Training
    for name in field.removeprefix(_PREFIX).split("."):
        fields: Mapping[str, Any] = holder.model_fields
        annotation = next(info.annotation for info in fields.values() if info.alias == name)
        holder = annotation = _bare(annotation)
    return str if get_origin(annotation) is Literal else annotation


def _bare(annotation: Any) -> Any:
    """Without bounds, and without the alternative None."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return _bare(next(each for each in get_args(annotation) if each is not types.NoneType))
    return annotation


def _told(parameters: Mapping[str, ParameterValue]) -> str:
    return ", ".join(f"{field}: {as_text(value)}" for field, value in parameters.items())


def _large_grid(size: int, max_trials: int) -> BadInputError:
    return _unfit(
        "search.budget.maxTrials",
        f"the grid has {size} combinations, the budget {max_trials} trials; raise it, or give "
        "fewer values",
    )


def _unfit(path: str, message: str) -> BadInputError:
    return BadInputError(Reason.INVALID_SPEC, f"{path}: {message}")
