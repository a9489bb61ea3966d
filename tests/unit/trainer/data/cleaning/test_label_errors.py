"""Answers that are classes, of which some are wrong."""

import random

import numpy as np

from tunesmith_api.finetunejob.cleaning import Cleaning, LabelErrors, Policy
from tunesmith_trainer.data.cleaning.cleaner import HeldOut, clean
from tunesmith_trainer.data.cleaning.label_errors import label_errors, suspected
from tunesmith_trainer.data.rows import Message, Problems, Row

# Mostly words of the subject, as in a sentence.
WORDS = {
    name: [f"{name}{number}" for number in range(10)] for name in ("harbour", "kitchen", "garden")
}


def drawn(num: int, *, wrong: int, seed: int = 0) -> tuple[list[str], list[str], list[int]]:
    """Texts of three subjects with their names, some of which are another's."""
    chance = random.Random(seed)
    names = [chance.choice(list(WORDS)) for _ in range(num)]
    texts = [" ".join(chance.choices(WORDS[name], k=6)) for name in names]
    places = sorted(chance.sample(range(num), wrong))
    for place in places:
        names[place] = chance.choice([name for name in WORDS if name != names[place]])
    return texts, names, places


def test_answers_that_were_swapped_are_suspected() -> None:
    texts, answers, wrong = drawn(300, wrong=15)

    found = label_errors(texts, answers, seed=0)

    assert set(found) <= set(wrong)
    assert len(found) >= 10


def test_right_answers_are_not_suspected() -> None:
    texts, answers, _ = drawn(300, wrong=0)

    assert label_errors(texts, answers, seed=0) == []


def test_what_words_do_not_tell_is_left_alone() -> None:
    texts, _, _ = drawn(300, wrong=0)
    answers = random.Random(1).choices(["yes", "no"], k=300)

    assert label_errors(texts, answers, seed=0) == []


def test_answers_that_are_no_classes_are_left_alone() -> None:
    texts, answers, _ = drawn(300, wrong=15)
    few = [f"{answer} {place}" for place, answer in enumerate(answers)]

    assert label_errors(texts, few, seed=0) == []
    assert label_errors(texts[:40], answers[:40], seed=0) == []
    assert label_errors(texts, ["one"] * 300, seed=0) == []
    assert label_errors([], [], seed=0) == []


def test_the_confident_joint_counts_what_is_surer_than_its_class() -> None:
    told = np.array([[0.9, 0.1], [0.8, 0.2], [0.05, 0.95], [0.2, 0.8], [0.55, 0.45]])
    given = np.array([0, 0, 0, 1, 1])

    # Of class 0 rows are 0.58 sure in the mean, of class 1 0.63: the last is unsure, not wrong.
    assert suspected(told, given).tolist() == [False, False, True, False, False]


def test_the_policy_decides_and_the_audit_names_the_rows() -> None:
    texts, answers, wrong = drawn(200, wrong=8, seed=3)
    rows = [
        Row(f"a.jsonl:{place}", (Message("user", text), Message("assistant", answer)))
        for place, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]

    def kept(policy: Policy) -> tuple[int, list[str]]:
        left, found = clean(
            rows,
            cleaning=Cleaning(exact_duplicates="keep", label_errors=LabelErrors(policy=policy)),
            split="train",
            problems=Problems(),
            held_out=HeldOut([], []),
        )
        return len(left), [each.row for each in found if each.rule == "labelErrors"]

    number, named = kept("warn")
    assert number == 200
    assert 0 < len(named) <= 8
    assert set(named) <= {f"a.jsonl:{place}" for place in wrong}
    assert kept("keep") == (200, [])
    assert kept("remove") == (200 - len(named), named)
