"""metav1.Condition, and the conditions that tools read of every kind."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import CamelCase

Message = Annotated[str, StringConstraints(max_length=256)]


Name = Annotated[str, StringConstraints(max_length=256)]


class ConditionType(StrEnum):
    """The types that a job of today sets.

    The first block follows the stages, the second is for tools. A status may hold others: `type` is
    any CamelCase word, as in metav1.
    """

    DATA_READY = "DataReady"
    TRAINED = "Trained"
    EVALUATED = "Evaluated"
    COMPRESSED = "Compressed"
    VERIFIED = "Verified"
    PUBLISHED = "Published"

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
