"""What a replica answers at /tunesmith/samples is read whole or not at all."""

from typing import Any

import pytest

from tunesmith_engine.rollout.ring_page import MAX_SAMPLES_OF_PAGE, RingPage
from tunesmith_engine.rollout.samples import Arm

SAMPLE = {"seq": 1, "ageSeconds": 0.5}
ANSWER = {"instance": "i", "next": 1, "dropped": 0, "watermarkSeconds": 2, "samples": [SAMPLE]}


def test_a_page_is_put_on_the_clock_of_its_rollout() -> None:
    page = RingPage.of(ANSWER, read_at=107.0).in_rollout("r-1", Arm.STABLE, begin=100.0)

    assert (page.replica, page.arm, page.read_at) == ("r-1", Arm.STABLE, 7.0)
    assert (page.instance, page.next, page.watermark_seconds) == ("i", 1, 2.0)
    assert page.samples == (SAMPLE,)


@pytest.mark.parametrize(("num_samples", "is_last"), [(1, True), (MAX_SAMPLES_OF_PAGE, False)])
def test_a_full_page_is_followed_by_another(*, num_samples: int, is_last: bool) -> None:
    page = RingPage.of(ANSWER | {"samples": [SAMPLE] * num_samples}, read_at=0.0)

    assert page.is_last is is_last


@pytest.mark.parametrize("answer", [{}, ANSWER | {"next": "x"}, ANSWER | {"samples": [1]}])
def test_an_answer_of_another_server_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        RingPage.of(answer, read_at=0.0)
