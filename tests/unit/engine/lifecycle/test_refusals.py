"""A job that this release cannot read, and what becomes of it when a later one can."""

from datetime import timedelta

from theatre import START, Theatre, a_plan
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.rejections import refused
from tunesmith_engine.stages.catalog import PREPARE, TRAIN

MESSAGE = "spec.training.magic: unknown field"


def refuse(status: FineTuneJobStatus | None, *, generation: int = 1) -> FineTuneJobStatus:
    return refused(status, generation=generation, message=MESSAGE, now=START)


def test_a_job_that_cannot_be_read_fails_and_names_the_field() -> None:
    status = refuse(None)
    told = {str(each.type): each for each in status.conditions}

    assert status.phase == Phase.FAILED
    assert status.observed_generation == 1
    for type_, holds in (("Failed", "True"), ("Stalled", "True"), ("Ready", "False")):
        assert told[type_].status == holds
        assert told[type_].reason == Reason.INVALID_SPEC
        assert told[type_].message == MESSAGE


def test_a_refusal_that_is_repeated_writes_nothing() -> None:
    first = refuse(None)
    later = START + timedelta(hours=1)

    assert refused(first, generation=1, message=MESSAGE, now=later) == first


def test_a_job_that_is_over_stays_as_it_ended() -> None:
    theatre = Theatre(a_plan())
    theatre.play(lambda each: each.status is not None and each.status.is_finished)

    assert theatre.status is not None
    assert refuse(theatre.status) == theatre.status


def test_a_job_that_can_be_read_again_goes_on_where_it_was() -> None:
    theatre = Theatre(a_plan())
    theatre.play_up_to(TRAIN.name)
    theatre.status = refuse(theatre.status)

    theatre.step()

    assert theatre.status.phase == TRAIN.phase
    assert theatre.status.completion_time is None
    assert theatre.condition("Failed").status == "False"
    assert [each.stage for each in theatre.started] == [PREPARE.name, TRAIN.name]
    assert [each.attempt for each in theatre.started] == [1, 1]


def test_a_job_that_was_never_read_begins_when_it_can_be() -> None:
    theatre = Theatre(a_plan(), status=refuse(None))

    theatre.step()

    assert [each.stage for each in theatre.started] == [PREPARE.name]
