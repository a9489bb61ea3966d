"""One Event for each change of phase."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tunesmith_api.finetunejob.status import FINAL_PHASES, FineTuneJobStatus, Phase
from tunesmith_engine.lifecycle.conditions import job_conditions
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_operator.finetunejob.events import event_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)
FOUND: dict[str, Any] = {
    "metadata": {"name": "job", "namespace": "ns", "uid": "u", "resourceVersion": "7"}
}


def status_in(phase: str) -> FineTuneJobStatus:
    conditions = job_conditions(
        phase, is_at_rest=phase in FINAL_PHASES, reason="DatasetInvalid", message="line 3", now=NOW
    )
    return FineTuneJobStatus(phase=phase, conditions=conditions)


@pytest.mark.parametrize(
    ("phase", "type_", "reason"),
    [(TRAIN.phase, "Normal", "Training"), (Phase.FAILED, "Warning", "DatasetInvalid")],
)
def test_a_new_phase_is_told_with_the_message_of_the_job(
    phase: str, type_: str, reason: str
) -> None:
    event = event_of(FOUND, status_in(PREPARE.phase), status_in(phase), now=NOW)

    assert event is not None
    assert (event["type"], event["reason"], event["message"]) == (type_, reason, "line 3")
    assert event["involvedObject"]["uid"] == "u"


def test_the_first_status_is_an_event() -> None:
    assert event_of(FOUND, None, status_in(PREPARE.phase), now=NOW) is not None


def test_the_same_phase_is_no_event() -> None:
    same = status_in(TRAIN.phase)

    assert event_of(FOUND, same, same, now=NOW) is None


def test_the_same_change_has_the_same_name_and_another_one_another() -> None:
    before, after = status_in(PREPARE.phase), status_in(TRAIN.phase)
    later = {"metadata": FOUND["metadata"] | {"resourceVersion": "8"}}
    names = [
        (event_of(each, before, after, now=NOW) or {})["metadata"]["name"]
        for each in (FOUND, FOUND, later)
    ]

    assert names[0] == names[1] != names[2]
