"""Conditions: what kubectl, kstatus and Argo CD read, and the texts that fit into them.

Finished is Ready=True; failed is Ready=False and Stalled=True; Reconciling says that more will
happen by itself. `kubectl wait --for=condition=Complete` and `=Failed` work. `next_status.py`
writes them at each step, `rejections.py` where `advance` cannot.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from tunesmith_api.conditions import MAX_MESSAGE, MAX_REASON, Condition, ConditionType
from tunesmith_api.finetunejob.status import Phase, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.planning.plan import Plan

# What `Condition` and `Message` take: a longer text would make the whole status invalid.

_MIN_MESSAGE: Final = 64


def truncate_message(message: str, *, suffix: str = "") -> str:
    """At most 256 characters with the whole of `suffix`; an ellipsis stands for what was cut off.

    A suffix that would leave less than 64 characters of the message is left out.
    """
    suffix = suffix if len(suffix) <= MAX_MESSAGE - _MIN_MESSAGE else ""
    room = MAX_MESSAGE - len(suffix)
    return f"{message if len(message) <= room else f'{message[: room - 1]}…'}{suffix}"


def truncate_reason(reason: str) -> str:
    """The reason in the length that a condition takes.

    It may come from a stage of another release, so it need not be one of `Reason`; a condition
    takes no empty one.
    """
    return reason[:MAX_REASON] or str(Reason.STAGE_CRASHED)


def stage_conditions(
    plan: Plan, stages: Iterable[StageStatus], *, now: datetime
) -> list[Condition]:
    """One condition per stage of the plan: True once it is done, False with its reason before."""
    return [
        _condition(
            plan.stage(stage.name).stage.condition,
            is_true=stage.state == "Succeeded",
            reason=stage.reason,
            message=stage.message,
            now=now,
        )
        for stage in stages
    ]


def job_conditions(
    phase: str, *, is_at_rest: bool, reason: str, message: str, now: datetime
) -> list[Condition]:
    """The conditions of the whole job, all with the reason for where it stands."""
    # Each of them is written at each step, also those that are False: kstatus takes an object
    # without Ready for one that has reached its goal.
    is_true = {
        ConditionType.SUSPENDED: phase == Phase.SUSPENDED,
        ConditionType.COMPLETE: phase == Phase.SUCCEEDED,
        ConditionType.FAILED: phase == Phase.FAILED,
        ConditionType.READY: phase == Phase.SUCCEEDED,
        ConditionType.RECONCILING: not is_at_rest,
        ConditionType.STALLED: phase == Phase.FAILED,
    }
    return [
        _condition(type_, is_true=is_true[type_], reason=reason, message=message, now=now)
        for type_ in is_true
    ]


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


def _condition(type_: str, *, is_true: bool, reason: str, message: str, now: datetime) -> Condition:
    return Condition(
        type=type_,
        status="True" if is_true else "False",
        reason=truncate_reason(reason),
        message=truncate_message(message),
        last_transition_time=now,
    )
