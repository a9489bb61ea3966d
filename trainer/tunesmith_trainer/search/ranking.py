"""Which trial is best, and which ones no other trial dominates. Pure."""

from collections.abc import Sequence

from tunesmith_api.finetunejob.search import MAXIMIZED, Objective
from tunesmith_engine.stages.trial_records import TrialRecord


def best_trial(
    trials: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> TrialRecord | None:
    """The best of those that came to their end; None where none did.

    Each objective in turn keeps the trials within its tolerance of the best value; the last one
    chooses, and of equals the first trial wins.
    """
    left = [trial for trial in trials if trial.state == "completed"]
    if not left:
        return None
    for objective in objectives[:-1]:
        least = min(_cost(trial, objective) for trial in left)
        most = least + objective.tolerance * abs(least)
        left = [trial for trial in left if _cost(trial, objective) <= most]
    return min(left, key=lambda trial: (_cost(trial, objectives[-1]), trial.number))


def pareto_front(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[int]:
    """Numbers of the trials that no other dominates: is as good in all, and better in something."""
    points = {
        trial.number: [_cost(trial, objective) for objective in objectives]
        for trial in trials
        if trial.state == "completed"
    }
    return [
        number
        for number, own in points.items()
        if not any(_dominates(other, own) for other in points.values())
    ]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)


def _cost(trial: TrialRecord, objective: Objective) -> float:
    value = trial.objectives[objective.metric]
    return -value if objective.metric in MAXIMIZED else value
