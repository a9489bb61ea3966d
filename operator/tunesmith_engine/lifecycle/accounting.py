"""How long each attempt waited and worked, counted from what was seen of it.

`run_state.py` counts the open attempt up to the moment of the look, `next_status.py` adds what is
new to the totals of the job. A count goes on from where the last stored one ended, so that neither
a restart nor a clock that is set back takes anything away or counts it twice.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from tunesmith_api.finetunejob.status import Attempt, FineTuneJobStatus
from tunesmith_engine.lifecycle.observations import ObservedAttempt

_COUNTERS = ("counted_time", "queued_seconds", "queue_held_seconds", "running_seconds")
_SINCE = ("running_since", "waiting_since")
Span = tuple[datetime, datetime]


def count_time(attempt: Attempt, observed: ObservedAttempt, *, now: datetime) -> Attempt:
    """The open attempt with its time counted up to `now`, or to its end if that is known."""
    since = attempt.counted_time or attempt.start_time
    # NB: never before `since`. A clock that is set back gives an empty span, not a negative one,
    # and what was counted before is not counted again when the clock has caught up.
    until = max(since, min(now, observed.ended or now))
    work = _work(attempt, observed, until=until)
    running = _overlap((since, until), work)
    queued = (until - since).total_seconds() - running
    held = min(queued, _queue_held((since, until), attempt, observed))
    update: dict[str, object] = {
        "counted_time": until,
        # Milliseconds: sums of binary fractions would differ in their last digits at each look.
        "running_seconds": round(attempt.running_seconds + running, 3),
        "queued_seconds": round(attempt.queued_seconds + queued, 3),
        "queue_held_seconds": round(attempt.queue_held_seconds + held, 3),
    }
    return attempt.model_copy(update=update | _turn(attempt, observed, work))


def usage_totals(before: FineTuneJobStatus, attempts: Iterable[Attempt]) -> dict[str, float]:
    """The totals of the job, now that its attempts stand at `attempts`."""
    # Only what is new is added: the list of attempts is cut to 64, and a new run starts an empty
    # one, but what was used stays used.
    previous = {_identity(attempt): attempt for attempt in before.attempts}
    gpu, queued = before.gpu_seconds, before.queued_seconds
    for attempt in attempts:
        old = previous.get(_identity(attempt))
        running = attempt.running_seconds - (old.running_seconds if old else 0.0)
        gpu += attempt.accelerators * running
        queued += attempt.queued_seconds - (old.queued_seconds if old else 0.0)
    return {"gpu_seconds": round(gpu, 3), "queued_seconds": round(queued, 3)}


def without_usage(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status less everything that changes only because time passes.

    Two that are equal so need no write: the counts of the newer one come with the next news.
    """
    attempts = []
    for attempt in status.attempts:
        passing = [*_COUNTERS]
        # That an attempt has begun to run is worth a write where it holds accelerators, or a queue
        # may take its place back: an operator that was away would not know what it used.
        if not (attempt.accelerators or attempt.queue_held_seconds):
            passing += _SINCE
        is_open = attempt.end_time is None
        attempts.append(attempt.model_copy(update=dict.fromkeys(passing)) if is_open else attempt)
    used = {"gpu_seconds": 0.0, "queued_seconds": 0.0, "cost": None}
    update = {"attempts": attempts, **used}
    return status.model_copy(update=update)


def queue_held_since(attempts: Iterable[Attempt], start: datetime) -> timedelta:
    """For how long the attempts since `start` were held in a queue."""
    held = (attempt.queue_held_seconds for attempt in attempts if attempt.start_time >= start)
    return timedelta(seconds=sum(held))


def _work(attempt: Attempt, observed: ObservedAttempt, *, until: datetime) -> Span | None:
    """From when to when the process of the attempt ran last, by what is known of it."""
    began = attempt.running_since
    if observed.waiting is not None:
        if began is None or _was_requeued(attempt, observed):
            return None
        return began, max(began, observed.waiting.since)
    if observed.began is not None:
        began = observed.began
    elif began is None and observed.ended is None:
        # Of a process on this machine nothing but its attempt is known: it runs from the start.
        began = attempt.start_time
    return (began, max(began, until)) if began else None


def _queue_held(span: Span, attempt: Attempt, observed: ObservedAttempt) -> float:
    if observed.waiting is not None and observed.waiting.in_queue:
        return _overlap(span, (observed.waiting.since, span[1]))
    return _overlap(span, (attempt.start_time, observed.admitted) if observed.admitted else None)


def _turn(attempt: Attempt, observed: ObservedAttempt, work: Span | None) -> dict[str, object]:
    """Since when the attempt works, or else waits."""
    waiting = observed.waiting
    if waiting is None and work is not None:
        return {"running_since": work[0], "waiting_since": None}
    if waiting is not None and waiting.in_queue:
        return {"running_since": None, "waiting_since": max(attempt.start_time, waiting.since)}
    if observed.admitted is not None and _was_requeued(attempt, observed):
        return {"running_since": None, "waiting_since": observed.admitted}
    since = attempt.waiting_since or (work[1] if work else attempt.start_time)
    return {"running_since": None, "waiting_since": since}


def _was_requeued(attempt: Attempt, observed: ObservedAttempt) -> bool:
    """Whether Kueue evicted it and admitted it again while nobody looked.

    An admission later than the beginning says so. When the place was lost nobody knows any more,
    so no accelerator is counted for the time between.
    """
    began, admitted = attempt.running_since, observed.admitted
    return began is not None and admitted is not None and began < admitted


def _overlap(span: Span, other: Span | None) -> float:
    if other is None:
        return 0.0
    start, end = max(span[0], other[0]), min(span[1], other[1])
    return max(0.0, (end - start).total_seconds())


def _identity(attempt: Attempt) -> tuple[str, int, datetime]:
    # A stage with another key counts its attempts from 1 again; the start tells them apart.
    return attempt.stage, attempt.number, attempt.start_time
