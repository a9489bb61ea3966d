"""metav1.Condition, and the conditions that tools read of every kind."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.values import CamelCase

Message = Annotated[str, StringConstraints(max_length=256)]
Name = Annotated[str, StringConstraints(max_length=256)]


class ConditionType(StrEnum):
    """The types that tools read of every kind; each stage of a job sets one more.

    As in metav1 the vocabulary is open: `Condition.type` is any CamelCase word.
    """

    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(ApiModel):
    """metav1.Condition: `last_transition_time` moves only when `status` flips."""

    type: CamelCase
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    message: Message = ""
    last_transition_time: datetime
    observed_generation: int = 0
