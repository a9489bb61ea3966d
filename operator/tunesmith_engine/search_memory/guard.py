"""The guard against negative transfer: memory has to beat the sampler, or it is not asked again.

Whose turn a trial is follows from the trials so far, and from nothing else: a search that is killed
and goes on decides the same.
"""

from collections.abc import Sequence
from typing import Final

from tunesmith_engine.search_memory.proposals import Observed
from tunesmith_engine.search_memory.records import Direction, badness

# Memory's share of the pairs "one of its trials, one of the sampler's" in which it has to be the
# better one. A half is what it would have by chance.
_WINS: Final = 0.5
# Trials of the sampler's, before memory has a second one.
_COMPARED: Final = 2


def keep_source(
    from_memory: Sequence[float | None],
    from_sampler: Sequence[float | None],
    *,
    direction: Direction,
) -> bool:
    """Whether what memory proposed did better than what the sampler did; None is a failed trial.

    The share of pairs is Mann and Whitney's (1947). Nothing to compare yet: it is kept.
    """
    if not from_memory or not from_sampler:
        return True
    wins = sum(
        badness(mine, direction=direction) < badness(other, direction=direction)
        for mine in from_memory
        for other in from_sampler
    )
    return wins > _WINS * len(from_memory) * len(from_sampler)


def dropped_sources(observed: Sequence[Observed], *, direction: Direction) -> frozenset[str]:
    """The jobs whose proposals did no better than the sampler's trials."""
    done = [trial for trial in observed if trial.is_done]
    from_sampler = [trial.value for trial in done if not trial.source]
    by_job: dict[str, list[float | None]] = {}
    for trial in done:
        if trial.source:
            by_job.setdefault(trial.source, []).append(trial.value)
    return frozenset(
        job
        for job, values in by_job.items()
        if not keep_source(values, from_sampler, direction=direction)
    )


def is_memorys_turn(observed: Sequence[Observed], most: int, *, direction: Direction) -> bool:
    """Whether memory, which may have `most` trials, proposes the next one.

    It begins; then the sampler shows twice what it would have done; then memory has the rest of its
    share, as long as its best trial is better than the sampler's. That is stricter than the pairs
    by which a job is dropped: settings from a task that is off in one field alone win most pairs,
    and never come near the best (docs/log.md).
    """
    mine = [trial for trial in observed if trial.source]
    others = [trial for trial in observed if not trial.source]
    if len(mine) >= most:
        return False
    if not mine:
        return True
    done, compared = _done(mine, direction), _done(others, direction)
    if not done or len(compared) < _COMPARED:
        # Of trials side by side, which have not ended, the next is for the comparison.
        return False
    return min(done) < min(compared)


def _done(trials: Sequence[Observed], direction: Direction) -> list[float]:
    return [badness(trial.value, direction=direction) for trial in trials if trial.is_done]
