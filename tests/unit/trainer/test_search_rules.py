"""Which trial ends early, which one is best, and which rows choose; all of it without a model."""

import pytest

from tunesmith_api.finetunejob.search import Objective, Pruner
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.trial_records import Intermediate, TrialRecord
from tunesmith_trainer.crossval.folds import folds_of
from tunesmith_trainer.crossval.intervals import mean_interval
from tunesmith_trainer.data.held_out_roles import parted
from tunesmith_trainer.search.pruning import is_pruned
from tunesmith_trainer.search.ranking import best_trial, pareto_front

ASHA = Pruner(type="asha", reduction_factor=3)


def course(*values: float) -> list[Intermediate]:
    return [
        Intermediate(tokens=100 * (at + 1), step=at + 1, value=value)
        for at, value in enumerate(values)
    ]


def trial(number: int, **objectives: float) -> TrialRecord:
    return TrialRecord(number=number, parameters={}, state="completed", objectives=objectives)


def test_asha_keeps_the_best_third_of_those_at_a_rung() -> None:
    others = [course(1.0), course(2.0), course(3.0), course(4.0), course(5.0)]

    verdicts = [is_pruned(ASHA, course(value), others, first_rung=100) for value in (1.5, 2.5)]

    assert verdicts == [False, True]


def test_no_trial_ends_before_the_first_rung_or_twice_at_one() -> None:
    others = [course(1.0, 0.9, 0.8), course(1.1, 0.9, 0.8)]

    assert not is_pruned(ASHA, course(9.0), others, first_rung=200)
    assert is_pruned(ASHA, course(9.0, 9.0), others, first_rung=200)
    assert not is_pruned(ASHA, course(9.0, 9.0, 9.0), others, first_rung=200)


def test_the_median_rule_compares_at_equal_tokens() -> None:
    others = [course(3.0, 1.0), course(3.0, 1.0), course(3.0, 1.0)]
    rule = Pruner(type="median")

    assert not is_pruned(rule, course(2.9), others, first_rung=1)
    assert is_pruned(rule, course(2.9, 2.8), others, first_rung=1)
    assert not is_pruned(rule, course(2.9, 2.8), others[:2], first_rung=1)


def test_the_next_objective_decides_within_the_tolerance_of_the_first() -> None:
    trials = [
        trial(0, heldOutLoss=1.00, trainableParameters=900),
        trial(1, heldOutLoss=1.01, trainableParameters=100),
        trial(2, heldOutLoss=1.20, trainableParameters=10),
        trial(3, heldOutLoss=1.30, trainableParameters=20),
    ]
    objectives = [
        Objective(metric="heldOutLoss", tolerance=0.02),
        Objective(metric="trainableParameters"),
    ]

    best = best_trial(trials, objectives)

    assert best is not None
    assert best.number == 1
    assert pareto_front(trials, objectives) == [0, 1, 2]


def test_speed_is_better_the_higher_it_is() -> None:
    trials = [trial(0, tokensPerSecond=10.0), trial(1, tokensPerSecond=20.0)]

    best = best_trial(trials, [Objective(metric="tokensPerSecond")])

    assert best is not None
    assert best.number == 1


def test_held_out_rows_are_parted_by_whole_questions_whatever_their_order() -> None:
    keys = ["a", "a", "b", "c", "d", "d", "e", "f"]

    choosing, scored = parted(keys, fraction=0.5)

    names = {keys[row] for row in choosing}
    assert names.isdisjoint(keys[row] for row in scored)
    assert sorted([*choosing, *scored]) == list(range(8))
    turned = parted(keys[::-1], fraction=0.5)[0]
    assert {keys[::-1][row] for row in turned} == names


def test_one_question_cannot_be_parted() -> None:
    with pytest.raises(BadInputError, match=r"raise dataset\.validationFraction"):
        parted(["a", "a"], fraction=0.5)


def test_folds_hold_whole_groups_and_every_answer() -> None:
    groups = [row // 2 for row in range(24)]
    answers = ["yes" if group % 2 else "no" for group in groups]

    folds = folds_of(groups, answers, num_folds=3, seed=0)

    assert sorted(row for fold in folds for row in fold) == list(range(24))
    assert [sum(answers[row] == "yes" for row in fold) for fold in folds] == [4, 4, 4]
    for fold in folds:
        outside = {groups[row] for row in range(24) if row not in fold}
        assert outside.isdisjoint(groups[row] for row in fold)


@pytest.mark.parametrize(
    ("groups", "answers", "message"),
    [
        ([0, 0, 1, 1], [""] * 4, "give at most 2"),
        (list(range(6)), ["a"] * 5 + ["b"], "1 of 2 answers have fewer groups"),
    ],
)
def test_rows_that_do_not_make_folds_are_refused(
    groups: list[int], answers: list[str], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        folds_of(groups, answers, num_folds=3, seed=0)


def test_the_interval_is_students() -> None:
    assert [round(_half_in_errors(degrees + 1), 3) for degrees in (1, 2, 4, 9, 49)] == [
        12.706,
        4.303,
        2.776,
        2.262,
        2.010,
    ]
    interval = mean_interval([1.0, 2.0, 3.0])
    assert (round(interval.low, 3), round(interval.high, 3)) == (-0.484, 4.484)


def _half_in_errors(num: int) -> float:
    interval = mean_interval([float(value) for value in range(num)])
    return (interval.high - interval.mean) / (interval.deviation / num**0.5)
