"""Conditions: what kubectl, kstatus and Argo CD read.

Finished is Ready=True; failed is Ready=False and Stalled=True; Reconciling says that more will
happen by itself. `kubectl wait --for=condition=Complete` and `=Failed` work. The transition time
moves only when the status flips (metav1.Condition).
"""

from collections.abc import Iterable
from datetime import datetime

from tunesmith_api.conditions import Condition, ConditionType
from tunesmith_api.finetunejob.status import Phase, StageStatus
from tunesmith_engine.lifecycle.wording import clipped, sound_reason
from tunesmith_engine.planning.plan import Plan


def stage_conditions(
    plan: Plan, stages: Iterable[StageStatus], *, now: datetime
) -> list[Condition]:
    """One condition per stage of the plan: True once it is done, False with its reason before."""
    return [
        _condition(
            plan.stage(stage.name).stage.condition,
            holds=stage.state == "Succeeded",
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
    holding = {
        ConditionType.SUSPENDED: phase == Phase.SUSPENDED,
        ConditionType.COMPLETE: phase == Phase.SUCCEEDED,
        ConditionType.FAILED: phase == Phase.FAILED,
        ConditionType.READY: phase == Phase.SUCCEEDED,
        ConditionType.RECONCILING: not is_at_rest,
        ConditionType.STALLED: phase == Phase.FAILED,
    }
    return [
        _condition(type_, holds=holds, reason=reason, message=message, now=now)
        for type_, holds in holding.items()
    ]


def merged(
    conditions: Iterable[Condition], *, before: Iterable[Condition], generation: int
) -> list[Condition]:
    """`conditions` at this generation, with the transition times of those that did not flip."""
    known = {each.type: each for each in before}
    result = []
    for each in conditions:
        old = known.get(each.type)
        update: dict[str, object] = {"observed_generation": generation}
        if old is not None and old.status == each.status:
            update["last_transition_time"] = old.last_transition_time
        result.append(each.model_copy(update=update))
    return result


def _condition(type_: str, *, holds: bool, reason: str, message: str, now: datetime) -> Condition:
    return Condition(
        type=type_,
        status="True" if holds else "False",
        reason=sound_reason(reason),
        message=clipped(message),
        last_transition_time=now,
    )
