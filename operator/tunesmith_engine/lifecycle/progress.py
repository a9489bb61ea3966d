"""Progress of the whole job, from the progress of its running stage."""

from datetime import datetime

from tunesmith_api.finetunejob.status import Progress, StageStatus
from tunesmith_engine.lifecycle.ledger import Ledger
from tunesmith_engine.lifecycle.wording import clipped
from tunesmith_engine.planning.plan import Plan


def progress_of(
    plan: Plan,
    ledger: Ledger,
    stage: StageStatus | None,
    *,
    told: Progress | None,
    message: str,
    before: Progress | None,
    now: datetime,
) -> Progress:
    """How far the job is while `stage` is the current one; None: it is done.

    `told` is what the running attempt said last. A progress that says the same as `before` keeps
    its time, so that looking often writes nothing.
    """
    name = stage.name if stage else ledger.stages[-1].name
    percent = _percent(plan, ledger, stage, told)
    if told is not None:
        return told.model_copy(update={"stage": name, "percent": percent})
    new = Progress(stage=name, percent=percent, message=clipped(message), last_update_time=now)
    if before is None:
        return new
    same = new.model_copy(update={"last_update_time": before.last_update_time})
    return same if same == before else new


def _percent(plan: Plan, ledger: Ledger, stage: StageStatus | None, told: Progress | None) -> float:
    weights = {planned.name: planned.stage.weight for planned in plan.stages}
    done = sum(weights[status.name] for status in ledger.stages if status.state == "Succeeded")
    part = weights[stage.name] * _fraction(told) if stage else 0.0
    whole = sum(weights.values())
    return round(min(100.0, 100.0 * (done + part) / whole), 1)


def _fraction(told: Progress | None) -> float:
    if told is None or told.step is None or not told.total_steps:
        return 0.0
    return min(1.0, max(0.0, told.step / told.total_steps))
