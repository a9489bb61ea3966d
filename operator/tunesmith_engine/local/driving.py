"""The life of a plan on this machine: see, decide, store, act, until there is nothing to do.

The status is stored before anything is started or stopped, so that a run killed in between is
gone on with from what it had decided.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_engine.lifecycle.advance import advance
from tunesmith_engine.lifecycle.observations import Observations
from tunesmith_engine.lifecycle.runs import begin
from tunesmith_engine.local.executor import LocalExecutor
from tunesmith_engine.local.home import Home
from tunesmith_engine.planning.plan import Plan

POLL_S: Final = 0.1


class StopAsked(Protocol):
    """What a person's Ctrl-C sets; `threading.Event` is one."""

    def is_set(self) -> bool: ...


def drive(
    plan: Plan,
    executor: LocalExecutor,
    *,
    home: Home,
    watch: Callable[[FineTuneJobStatus], None],
    stop: StopAsked,
) -> FineTuneJobStatus:
    """Bring the job to its end, or to where it was asked to stop; return its last status.

    `watch` gets every status that differs from the one before.
    """
    stored = home.read_status(plan.job)
    status = begin(plan, stored)
    while True:
        seen = executor.observe(stop_asked=stop.is_set())
        decision = advance(plan, status, seen, now=datetime.now(UTC))
        status = decision.status
        if status != stored:
            home.write_status(plan.job, status)
            stored = status
            watch(status)
        executor.apply(decision.actions)
        if _is_at_rest(status, seen):
            return status
        time.sleep(POLL_S)


def _is_at_rest(status: FineTuneJobStatus, seen: Observations) -> bool:
    is_over = status.is_finished or status.phase == Phase.SUSPENDED
    return is_over and not any(each.is_running for each in seen.attempts)
