"""A student that answers itself: what is drawn, how it counts, and that it can be drawn again."""

from typing import Any

import numpy as np
import pytest
import torch

from small_models import small_model
from small_runs import random_rows
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.train.objectives.distillation import Distillation, TeacherLogits
from tunesmith_trainer.train.objectives.on_policy import OnPolicyDistillation, last_answer

CPU = torch.device("cpu")
TOKENS = random_rows(6)
ROWS = [4, 0, 5, 2]
COMMON: dict[str, Any] = {
    "cross_entropy_weight": 0.3, "device": CPU, "regularization": Regularization(),
}  # fmt: skip


def on_policy(teacher: Any, *, fraction: float) -> OnPolicyDistillation:
    return OnPolicyDistillation(
        TOKENS, fraction=fraction, knowledge=TeacherLogits(teacher), **COMMON
    )


def test_passes_over_given_answers_are_those_of_plain_distillation() -> None:
    teacher, student = small_model(seed=1), small_model()

    loss = on_policy(teacher, fraction=0.0).summed_loss(student, ROWS)

    plain = Distillation(TOKENS, knowledge=TeacherLogits(teacher), **COMMON)
    assert loss.item() == plain.summed_loss(student, ROWS).item()


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_its_own_words() -> None:
    loss = on_policy(small_model(), fraction=1.0).summed_loss(small_model(), ROWS)

    assert abs(loss.item()) < 1e-3


def test_words_of_its_own_are_drawn_again_from_the_same_state_and_teach() -> None:
    teacher, student = small_model(seed=1), small_model().train()
    objective = on_policy(teacher, fraction=1.0)
    state = torch.get_rng_state()

    first = objective.summed_loss(student, ROWS)
    torch.set_rng_state(state)
    again = objective.summed_loss(student, ROWS)
    again.backward()

    assert first.item() == again.item() > 0
    assert student.training
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    # Others are drawn from another state.
    assert objective.summed_loss(student, ROWS).item() != first.item()


@pytest.mark.parametrize("row", ROWS)
def test_an_answer_stands_behind_the_rows_prompt_and_is_no_longer_than_its_own(row: int) -> None:
    objective = on_policy(small_model(seed=1), fraction=1.0)
    ids, trained = TOKENS.row(row)
    start = last_answer(trained)

    told, targets = objective._drawn(small_model(), row)

    assert told[:start] == ids[:start].tolist()
    assert start < len(told) <= len(ids)
    assert targets == [False] * start + [True] * (len(told) - start)


def test_of_several_answers_the_last_is_drawn() -> None:
    assert last_answer(np.array([False, True, True, False, False, True, True])) == 5
    assert last_answer(np.array([False, True, True])) == 1
