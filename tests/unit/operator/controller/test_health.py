"""When /healthz is not well."""

import pytest

from tunesmith_operator.controller.health import STUCK_S, Health
from tunesmith_operator.controller.work_queue import WorkQueue
from tunesmith_operator.finetunejob.step import RESYNC_S, resync_s


class Queue(WorkQueue):
    """A queue that has stood for a time."""

    def __init__(self, *, waited_s: float = 0, worked_s: float = 0) -> None:
        super().__init__()
        self.waited_s = waited_s
        self.worked_s = worked_s

    def longest_wait(self) -> float:
        return self.waited_s

    def work_times(self, kind: str | None = None) -> list[float]:  # noqa: ARG002
        return [self.worked_s]


@pytest.mark.parametrize(
    ("queue", "complaint"),
    [
        (None, ""),
        (Queue(), ""),
        (Queue(worked_s=STUCK_S + 1), "a worker has looked at one object for 601 s"),
        (Queue(waited_s=STUCK_S + 1), "an object has waited for a worker for 601 s"),
    ],
)
def test_an_operator_is_well_unless_its_work_is_stuck(
    queue: WorkQueue | None, complaint: str
) -> None:
    assert Health(queue).complaint() == complaint


def test_jobs_are_looked_at_again_at_different_times() -> None:
    times = {resync_s(f"uid-{number}") for number in range(100)}

    assert len(times) > 50
    assert min(times) >= 0.8 * RESYNC_S
    assert max(times) <= 1.2 * RESYNC_S
