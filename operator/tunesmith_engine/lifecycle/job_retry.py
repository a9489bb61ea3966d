"""A failed job that is taken up again, with all that is done: by an annotation, or by another spec.

It goes on in the same run: attempts, totals and finished stages stay. The status remembers the
value of the annotation that was acted on, so that the same one never acts twice, whoever is killed
in between. Stages whose part of the spec was corrected get new keys, and so do their readers.
"""

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase, StageStatus
from tunesmith_engine.lifecycle.rejections import is_rejected
from tunesmith_engine.lifecycle.run_state import pending_stage
from tunesmith_engine.planning.plan import Plan, PlannedStage
from tunesmith_engine.stages.contracts import StageName


def wants_retry(plan: Plan, status: FineTuneJobStatus) -> bool:
    """Whether the job has failed, and somebody has asked for more since."""
    if status.phase != Phase.FAILED:
        return False
    if plan.generation != status.observed_generation:
        return True
    # A job that could not be read goes on by itself once it can be: `lift_rejection`.
    return handle_request(plan, status) is not status and not is_rejected(status)


def take_up(plan: Plan, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status to go on from: what is not done is pending, with all its retries.

    `plan` has the keys of `kept_keys`. The request is noted by `handle_request`.
    """
    known = {stage.name: stage for stage in status.stages}
    update = {
        # As one that is resumed: the clock of activeDeadlineSeconds starts anew.
        "phase": Phase.SUSPENDED,
        "completion_time": None,
        "stages": [_taken_up(planned, known.get(planned.name)) for planned in plan.stages],
    }
    return status.model_copy(update=update)


def handle_request(plan: Plan, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status with the request noted, the very same if there is no new one.

    Of a job that has not failed it asks for nothing, and must not act when it does so later.
    """
    if plan.retry_requested in {"", status.last_handled_retry_at}:
        return status
    return status.model_copy(update={"last_handled_retry_at": plan.retry_requested})


def kept_keys(plan: Plan, status: FineTuneJobStatus) -> dict[StageName, str]:
    """The keys of the stages that read what they have read before.

    By the digest of their fields and not by their new keys, which another release makes otherwise:
    an upgrade between failure and retry repeats nothing, and goes on from the same checkpoint.
    """
    known = {stage.name: stage for stage in status.stages}
    kept: dict[StageName, str] = {}
    for planned in plan.stages:
        stage = known.get(planned.name)
        # Releases before this one have stored none.
        if stage is None or stage.spec_digest not in {None, planned.spec_digest}:
            continue
        read = {name for name in planned.stage.reads if name in known}
        if read == {one.name for one in plan.read_by(planned)} and read <= kept.keys():
            kept[planned.name] = stage.key
    return kept


def _taken_up(planned: PlannedStage, stage: StageStatus | None) -> StageStatus:
    new = pending_stage(planned)
    if stage is None:
        return new
    if (stage.key, stage.state) == (planned.key, "Succeeded"):
        return stage.model_copy(update={"spec_digest": planned.spec_digest})
    # NB: numbers of attempts go on, as in `new_run`: names of children are used once.
    return new.model_copy(update={"attempt": stage.attempt})
