"""How long each attempt waited and worked, counted from what was seen of it.

`stage_states.py` counts the open attempt up to the moment of the look, `next_status.py` adds what
is new to the totals of the job. A count goes on from where the last stored one ended, so that
neither a restart nor a clock that is set back takes anything away or counts it twice.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from tunesmith_api.finetunejob.status import Attempt, FineTuneJobStatus
from tunesmith_engine.lifecycle.observations import AttemptSeen

_COUNTS = ("counted_time", "queued_seconds", "queue_held_seconds", "running_seconds")
_TURNS = ("running_since", "waiting_since")
Span = tuple[datetime, datetime]


def counted(attempt: Attempt, seen: AttemptSeen, *, now: datetime) -> Attempt:
    """The open attempt with its time counted up to `now`, or to its end if that is known."""
    since = attempt.counted_time or attempt.start_time
    until = max(since, min(now, seen.ended or now))
    work = _work(attempt, seen, until=until)
    running = _overlap((since, until), work)
    waited = (until - since).total_seconds() - running
    update: dict[str, object] = {
        "counted_time": until,
        "running_seconds": round(attempt.running_seconds + running, 3),
        "queued_seconds": round(attempt.queued_seconds + waited, 3),
        "queue_held_seconds": round(
            attempt.queue_held_seconds + min(waited, _held((since, until), attempt, seen)), 3
        ),
    }
    return attempt.model_copy(update=update | _standing(attempt, seen, work))


def added(before: FineTuneJobStatus, attempts: Iterable[Attempt]) -> dict[str, float]:
    """The totals of the job, now that its attempts stand at `attempts`."""
    known = {_identity(each): each for each in before.attempts}
    gpu, queued = before.gpu_seconds, before.queued_seconds
    for each in attempts:
        old = known.get(_identity(each))
        gpu += each.accelerators * (each.running_seconds - (old.running_seconds if old else 0.0))
        queued += each.queued_seconds - (old.queued_seconds if old else 0.0)
    return {"gpu_seconds": round(gpu, 3), "queued_seconds": round(queued, 3)}


def without_counts(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status less everything that changes only because time passes.

    That an attempt has begun to run is worth a write where it holds accelerators, or a queue may
    take its place back.
    """
    attempts = [_without_counts(each) for each in status.attempts]
    update = {"attempts": attempts, "gpu_seconds": 0.0, "queued_seconds": 0.0}
    return status.model_copy(update=update)


def held_since(attempts: Iterable[Attempt], start: datetime) -> timedelta:
    """For how long the attempts since `start` were held in a queue."""
    held = (each.queue_held_seconds for each in attempts if each.start_time >= start)
    return timedelta(seconds=sum(held))


def _without_counts(attempt: Attempt) -> Attempt:
    if attempt.end_time is not None:
        return attempt
    is_worth_it = attempt.accelerators or attempt.queue_held_seconds
    passing = _COUNTS if is_worth_it else (*_COUNTS, *_TURNS)
    return attempt.model_copy(update=dict.fromkeys(passing))


def _work(attempt: Attempt, seen: AttemptSeen, *, until: datetime) -> Span | None:
    """From when to when the attempt was at work last, by what is known of it."""
    began = attempt.running_since
    if seen.waiting is not None:
        if began is None or _was_put_back(attempt, seen):
            return None
        return began, max(began, seen.waiting.since)
    if seen.began is not None:
        began = seen.began
    elif began is None and seen.ended is None:
        began = attempt.start_time
    return (began, max(began, until)) if began else None


def _held(span: Span, attempt: Attempt, seen: AttemptSeen) -> float:
    if seen.waiting is not None and seen.waiting.in_queue:
        return _overlap(span, (seen.waiting.since, span[1]))
    return _overlap(span, (attempt.start_time, seen.admitted) if seen.admitted else None)


def _standing(attempt: Attempt, seen: AttemptSeen, work: Span | None) -> dict[str, object]:
    """Since when the attempt works, or else waits."""
    if seen.waiting is None and work is not None:
        return {"running_since": work[0], "waiting_since": None}
    if seen.waiting is not None and seen.waiting.in_queue:
        return {"running_since": None, "waiting_since": max(attempt.start_time, seen.waiting.since)}
    if seen.admitted is not None and _was_put_back(attempt, seen):
        return {"running_since": None, "waiting_since": seen.admitted}
    since = attempt.waiting_since or (work[1] if work else attempt.start_time)
    return {"running_since": None, "waiting_since": since}


def _was_put_back(attempt: Attempt, seen: AttemptSeen) -> bool:
    """Whether a queue took its place and gave it another unseen; from when on, nobody knows."""
    began, admitted = attempt.running_since, seen.admitted
    return began is not None and admitted is not None and began < admitted


def _overlap(span: Span, other: Span | None) -> float:
    if other is None:
        return 0.0
    start, end = max(span[0], other[0]), min(span[1], other[1])
    return max(0.0, (end - start).total_seconds())


def _identity(attempt: Attempt) -> tuple[str, int, datetime]:
    return attempt.stage, attempt.number, attempt.start_time
