"""Which trial ends before its last step: asynchronous successive halving, or the median rule.

Pure functions of what trials have shown, so that a search that was killed goes on with the same
verdicts. Rungs are in tokens: steps of another batch size are other steps.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from tunesmith_api.finetunejob.search import Pruner
from tunesmith_engine.stages.trial_records import Intermediate

DEFAULT_REDUCTION: Final = 3
# With fewer at the same point a median says little.
_FEWEST_OTHERS: Final = 3

Course = Sequence[Intermediate]


def is_pruned(pruner: Pruner, own: Course, others: Sequence[Course], *, first_rung: int) -> bool:
    """Whether a trial with this course, judged at its newest point, ends there.

    `others` are the courses of all other trials, `first_rung` the tokens before which none ends.
    """
    if not own or own[-1].tokens < first_rung:
        return False
    if pruner.type == "median":
        return _is_below_median(own, others)
    factor = pruner.reduction_factor or DEFAULT_REDUCTION
    return _is_left_at_rung(own, others, first_rung=first_rung, factor=factor)


def _is_below_median(own: Course, others: Sequence[Course]) -> bool:
    tokens = own[-1].tokens
    # The last value of a trial that ended before this point stands for nothing at it.
    reached = [course for course in others if course and course[-1].tokens >= tokens]
    if len(reached) < _FEWEST_OTHERS:
        return False
    return own[-1].value > median(_value_by(course, tokens) for course in reached)


def _is_left_at_rung(
    own: Course, others: Sequence[Course], *, first_rung: int, factor: int
) -> bool:
    rung = first_rung
    while rung * factor <= own[-1].tokens:
        rung *= factor
    # Judged once, when it arrives: later ones must not take it off a rung that it has left.
    if len(own) > 1 and own[-2].tokens >= rung:
        return False
    arrived = [
        _value_from(course, rung) for course in others if course and course[-1].tokens >= rung
    ]
    num_better = sum(value < own[-1].value for value in arrived)
    return num_better >= max(1, (len(arrived) + 1) // factor)


def _value_by(course: Course, tokens: int) -> float:
    """The newest value at or before so many tokens; the first one if all came later."""
    before = [point.value for point in course if point.tokens <= tokens]
    return before[-1] if before else course[0].value


def _value_from(course: Course, tokens: int) -> float:
    """The first value after so many tokens."""
    return next(point.value for point in course if point.tokens >= tokens)
