"""When to look again at the latest, for what no executor tells of by itself."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from tunesmith_engine.deployment.deployment_state import Context, DeploymentState
from tunesmith_engine.deployment.rollout_step import step_of
from tunesmith_engine.deployment.take_back import GONE_SECONDS, UNREADY_SECONDS

# After a transition the next one may be due; while replicas or a route are waited for, or a drain;
# while nothing but time has to pass.
AT_ONCE_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 30.0


def wake_at(context: Context, state: DeploymentState, *, has_moved: bool) -> datetime | None:
    """The earliest time at which something may be due; None if only news can change anything."""
    if has_moved:
        return context.now + timedelta(seconds=AT_ONCE_SECONDS)
    return min(_times(context, state), default=None)


def _times(context: Context, state: DeploymentState) -> Iterator[datetime]:
    now, rollout = context.now, context.spec.rollout
    is_analyzing = state.candidate is not None and state.candidate.step_since is not None
    is_settled = context.is_in_use(state.route) or not state.route.weights
    stable = state.stable
    is_whole = stable is None or stable.ready_replicas >= stable.replicas
    if state.draining or not is_settled or not is_whole or (state.candidate and not is_analyzing):
        yield now + timedelta(seconds=CHECK_SECONDS)
    if state.candidate is None:
        return
    candidate, window = state.candidate, rollout.analysis.window_seconds
    yield now + timedelta(seconds=min(max(window, AT_ONCE_SECONDS), LONGEST_SECONDS))
    limits = (
        (candidate.step_since, step_of(context, candidate).seconds),
        (candidate.analysis_since, rollout.analysis.deadline_seconds),
        (candidate.waiting_since, rollout.progress_deadline_seconds),
        # A tick later: the limit has to be passed.
        (candidate.unready_since, GONE_SECONDS),
        (candidate.unready_since, UNREADY_SECONDS + AT_ONCE_SECONDS),
    )
    for since, seconds in limits:
        remaining = seconds - context.elapsed_s(since)
        # NB: a spec may give more seconds than a date can have.
        if since is not None and 0 < remaining < LONGEST_SECONDS:
            yield now + timedelta(seconds=remaining)
