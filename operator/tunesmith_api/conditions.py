"""metav1.Condition, and the conditions that tools read of every kind."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import CamelCase

# Metav1 allows 32,768 and 1,024. Etcd holds 1.5 MiB of an object, and a status many messages, 64 of
# attempts among them; five problems of data with their remedies take nearly this much.
MAX_MESSAGE: Final = 1024
MAX_REASON: Final = 64

Message = Annotated[str, StringConstraints(max_length=MAX_MESSAGE)]
Name = Annotated[str, StringConstraints(max_length=256)]


class ConditionType(StrEnum):
    """The types that tools read of every kind; each stage of a job sets one more.

    As in metav1 the vocabulary is open: `Condition.type` is any CamelCase word.
    """

    SUSPENDED = "Suspended"
    # For `kubectl wait --for=condition=`, named as those of a batch Job.
    COMPLETE = "Complete"
    FAILED = "Failed"
    # For kstatus, and so for Flux and Argo CD: Reconciling lets them wait, Stalled ends the wait.
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(ApiModel):
    """metav1.Condition: `last_transition_time` moves only when `status` flips."""

    type: CamelCase
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=MAX_REASON)]
    message: Message = ""
    last_transition_time: datetime
    observed_generation: int = 0
