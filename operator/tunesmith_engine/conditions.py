"""Conditions as every kind writes them, and messages that fit into them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ValidationError

from tunesmith_api.conditions import MAX_MESSAGE, MAX_REASON, Condition
from tunesmith_api.field_paths import dotted
from tunesmith_api.validation_errors import error_message, error_path

_MIN_MESSAGE: Final = 64


def truncate_message(message: str, *, suffix: str = "") -> str:
    """At most 1,024 characters with the whole of `suffix`; an ellipsis stands for what was cut off.

    It is cut where a line or a clause ends, for half a remedy misleads; within one only where that
    would lose more than half. A suffix that would leave less than 64 characters is left out.
    """
    suffix = suffix if len(suffix) <= MAX_MESSAGE - _MIN_MESSAGE else ""
    room = MAX_MESSAGE - len(suffix)
    if len(message) <= room:
        return f"{message}{suffix}"
    kept = message[: room - 1]
    ends = (kept.rfind(mark) for mark in ("\n", "; ", ". "))
    end = next((end for end in ends if 2 * end > room), None)
    return f"{kept[:end]}…{suffix}"


def invalid_spec_message(error: ValidationError, *, model: type[BaseModel]) -> str:
    """The first problem of a resource of this model, as a condition says it, and how many more."""
    first, *more = error.errors(include_url=False)
    rest = f" (and {len(more)} more)" if more else ""
    text = f"{dotted(error_path(first))}: {error_message(first, model=model)}"
    return truncate_message(text, suffix=rest)


def make_condition(
    type_: str, *, is_true: bool, reason: str, message: str, now: datetime
) -> Condition:
    """A condition that has just come to be so, with texts cut to what it takes."""
    # A longer text would make the whole status invalid.
    return Condition(
        type=type_,
        status="True" if is_true else "False",
        reason=reason[:MAX_REASON],
        message=truncate_message(message),
        last_transition_time=now,
    )


def merge_conditions(
    conditions: Iterable[Condition], *, before: Iterable[Condition], generation: int
) -> list[Condition]:
    """`conditions` at this generation, with the transition times of those that did not flip."""
    previous = {condition.type: condition for condition in before}
    merged = []
    for condition in conditions:
        old = previous.get(condition.type)
        update: dict[str, object] = {"observed_generation": generation}
        # metav1.Condition: the time moves with `status` alone, not with reason or message. It also
        # keeps a repeated step equal to the stored one, so that nothing is written.
        if old is not None and old.status == condition.status:
            update["last_transition_time"] = old.last_transition_time
        merged.append(condition.model_copy(update=update))
    return merged
