"""When /healthz is not well."""

import pytest

from tunesmith_operator.controller.health import STUCK_S, Health
from tunesmith_operator.controller.work_queue import WorkQueue


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
