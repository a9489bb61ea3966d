"""Conditions of a job: what kubectl, kstatus and Argo CD read.

Finished is Ready=True; failed is Ready=False and Stalled=True; Reconciling says that more will
happen by itself. `kubectl wait --for=condition=Complete` and `=Failed` work. `next_status.py`
writes them at each step, `rejections.py` where `advance` cannot.
"""

from collections.abc import Iterable
from datetime import datetime

from tunesmith_api.conditions import MAX_REASON, Condition, ConditionType
from tunesmith_api.finetunejob.status import Phase, StageStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.conditions import make_condition
from tunesmith_engine.planning.plan import Plan


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
        make_condition(
            plan.stage(stage.name).stage.condition,
            is_true=stage.state == "Succeeded",
            reason=truncate_reason(stage.reason),
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
        make_condition(type_, is_true=is_true[type_], reason=reason, message=message, now=now)
        for type_ in is_true
    ]
