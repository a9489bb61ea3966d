"""Whether the operator does its work: what /healthz says, and why not.

A task that ends takes the whole process with it; what is left to notice are workers that are stuck.
"""

from dataclasses import dataclass
from typing import Final

from tunesmith_operator.controller.work_queue import WorkQueue

# Seconds. A request ends after 30, and one look at a job makes some dozens of them at the most.
STUCK_S: Final = 600.0


@dataclass(slots=True)
class Health:
    """The health of this replica; one that waits for the Lease has no queue, and is well."""

    queue: WorkQueue | None = None

    def complaint(self) -> str:
        """What is wrong; empty if nothing is."""
        if self.queue is None:
            return ""
        longest = max(self.queue.work_times(), default=0.0)
        if longest > STUCK_S:
            return f"a worker has looked at one job for {longest:.0f} s"
        waited = self.queue.longest_wait()
        if waited > STUCK_S:
            return f"a job has waited for a worker for {waited:.0f} s"
        return ""
