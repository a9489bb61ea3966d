"""A job that this release cannot read, and what becomes of it when a later one can."""

from datetime import timedelta

from simulation import START, Simulation, a_plan
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.rejections import reject_spec
from tunesmith_engine.stages.catalog import PREPARE, TRAIN

MESSAGE = "spec.training.magic: unknown field"


def refuse(status: FineTuneJobStatus | None, *, generation: int = 1) -> FineTuneJobStatus:
    return reject_spec(status, generation=generation, message=MESSAGE, now=START)


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

    assert reject_spec(first, generation=1, message=MESSAGE, now=later) == first


def test_a_job_that_is_over_stays_as_it_ended() -> None:
    simulation = Simulation(a_plan())
    simulation.run_until(lambda each: each.status is not None and each.status.is_finished)

    assert simulation.status is not None
    assert refuse(simulation.status) == simulation.status


def test_a_job_that_can_be_read_again_goes_on_where_it_was() -> None:
    simulation = Simulation(a_plan())
    simulation.run_up_to(TRAIN.name)
    simulation.status = refuse(simulation.status)

    simulation.step()

    assert simulation.status.phase == TRAIN.phase
    assert simulation.status.completion_time is None
    assert simulation.condition("Failed").status == "False"
    assert [each.stage for each in simulation.started] == [PREPARE.name, TRAIN.name]
    assert [each.attempt for each in simulation.started] == [1, 1]


def test_a_job_that_was_never_read_begins_when_it_can_be() -> None:
    simulation = Simulation(a_plan(), status=refuse(None))

    simulation.step()

    assert [each.stage for each in simulation.started] == [PREPARE.name]
