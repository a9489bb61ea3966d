"""What a new search tries first: settings that did well on earlier tasks, each for another reason.

A sequential portfolio (Wistuba et al. 2015, arXiv 1512.03703): the next setting is the one that
most lowers what the earlier tasks would have lost by the best of those chosen so far. So the second
is none that is good where the first was.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tunesmith_api.finetunejob.search import Search
from tunesmith_engine.search_memory.distances import Neighbour
from tunesmith_engine.search_memory.records import Settings, Task, badness
from tunesmith_engine.search_memory.sources import Known, Source, discordance, sources_of
from tunesmith_engine.search_memory.space import Point, Space

# Trials of one earlier task that are candidates.
_FROM_EACH: Final = 10
# A setting so near to one that was tried would tell nothing.
_SAME: Final = 1e-4
# A source that ranks more of the observed pairs wrongly knows less than a coin.
_MOST_DISCORDANT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Observed:
    """A trial of the new search: its settings, its value if it has one, and who proposed it.

    `source` is the job that memory had it from; empty for the sampler's own. `is_done` tells one
    without a value that failed from one that still runs.
    """

    settings: Settings
    value: float | None = None
    source: str = ""
    is_done: bool = True


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings within the new space, the job that they are from, and why.

    `score` is what the near tasks expect of it: 0 their best, 1 their median. `gain` is the part
    by which they expect it to be better than a median trial.
    """

    settings: Settings
    source: str
    distance: float
    score: float
    gain: float | None
    supporters: tuple[str, ...] = ()


def most_proposals(search: Search) -> int:
    """How many of the trials of a search memory may choose; none of a grid, which has an order."""
    if search.memory.use == "none" or search.method == "grid":
        return 0
    return math.floor(search.memory.max_share * search.budget.max_trials + 1e-9)


def proposals(
    neighbours: Sequence[Neighbour],
    task: Task,
    space: Space,
    most: int,
    *,
    observed: Sequence[Observed] = (),
    dropped: frozenset[str] = frozenset(),
) -> list[Proposal]:
    """What to try next, the most promising first; at most `most`, with those tried.

    Jobs in `dropped` are not asked. Whoever calls it again with what was observed meanwhile gets
    the word of those tasks that were right.
    """
    num = most - sum(1 for trial in observed if trial.source)
    if num <= 0:
        return []
    sources = trusted_sources(neighbours, task, space, observed=observed, dropped=dropped)
    return _portfolio(sources, space, num, tried=[space.point(each.settings) for each in observed])


def trusted_sources(
    neighbours: Sequence[Neighbour],
    task: Task,
    space: Space,
    *,
    observed: Sequence[Observed] = (),
    dropped: frozenset[str] = frozenset(),
) -> list[tuple[Source, float]]:
    """The near tasks with the weight of their word, without those that were mostly wrong so far."""
    asked = [each for each in neighbours if each.record.job not in dropped]
    seen = _seen(observed, task, space)
    weighted = []
    for source in sources_of(asked, space):
        wrong = discordance(source, seen)
        if wrong is not None and wrong > _MOST_DISCORDANT:
            continue
        trust = 1.0 if wrong is None else (1.0 - wrong) ** 2
        weighted.append((source, source.nearness * trust))
    return weighted


def _seen(
    observed: Sequence[Observed], task: Task, space: Space
) -> Mapping[int, tuple[Point, float]]:
    return {
        place: (space.point(each.settings), badness(each.value, direction=task.direction))
        for place, each in enumerate(observed)
        if each.is_done
    }


@dataclass(frozen=True, slots=True)
class _Candidate:
    known: Known
    source: Source
    settings: Settings
    point: Point
    scores: tuple[float, ...]


def _portfolio(
    sources: Sequence[tuple[Source, float]], space: Space, num: int, *, tried: Sequence[Point]
) -> list[Proposal]:
    candidates = _candidates(sources, space, tried=tried)
    weights = [weight for _, weight in sources]
    # What each task loses by the best setting so far: its median, where nothing was tried.
    lost = [min((source.predict(point) for point in tried), default=1.0) for source, _ in sources]
    chosen: list[_Candidate] = []
    while candidates and len(chosen) < num:
        best = min(candidates, key=lambda each: _left(each.scores, lost, weights))
        chosen.append(best)
        lost = [min(pair) for pair in zip(lost, best.scores, strict=True)]
        candidates = [each for each in candidates if not _is_same(space, each.point, best.point)]
    return [_proposal(each, sources) for each in chosen]


def _left(scores: Sequence[float], lost: Sequence[float], weights: Sequence[float]) -> float:
    """What all tasks would still lose; the candidate's own score breaks ties."""
    portfolio = sum(
        weight * min(score, before)
        for weight, score, before in zip(weights, scores, lost, strict=True)
    )
    alone = sum(weight * score for weight, score in zip(weights, scores, strict=True))
    return portfolio + 0.01 * alone


def _candidates(
    sources: Sequence[tuple[Source, float]], space: Space, *, tried: Sequence[Point]
) -> list[_Candidate]:
    found: list[_Candidate] = []
    for source, _ in sources:
        for known in source.best(_FROM_EACH):
            settings = space.projected(known.settings)
            if settings is None:
                continue
            point = space.point(settings)
            if any(_is_same(space, point, other) for other in tried):
                continue
            scores = tuple(each.predict(point) for each, _ in sources)
            found.append(_Candidate(known, source, settings, point, scores))
    return found


def _is_same(space: Space, one: Point, other: Point) -> bool:
    return space.squared_distance(one, other) < _SAME


def _proposal(chosen: _Candidate, sources: Sequence[tuple[Source, float]]) -> Proposal:
    total = sum(weight for _, weight in sources)
    gains = [
        (weight, gain)
        for (source, weight), score in zip(sources, chosen.scores, strict=True)
        if (gain := source.gain(score)) is not None
    ]
    heard = sum(weight for weight, _ in gains)
    return Proposal(
        settings=chosen.settings,
        source=chosen.known.job,
        distance=chosen.source.distance,
        score=sum(w * s for (_, w), s in zip(sources, chosen.scores, strict=True)) / total,
        gain=sum(weight * gain for weight, gain in gains) / heard if heard else None,
        supporters=tuple(
            source.jobs[0]
            for (source, _), score in zip(sources, chosen.scores, strict=True)
            if score < _SUPPORTS
        ),
    )


# A task that expects a setting to come so near to its best supports it.
_SUPPORTS: Final = 0.5
