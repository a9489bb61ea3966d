"""Whether new texts are as different from each other as the job's own."""

from row_writer import new_question
from tunesmith_trainer.synthesize.diversity import collapse_of, measured

OWN = [
    "My screen stays dark after lunch.",
    "How do I print on both sides of the paper?",
    "The mail of yesterday is gone, where is it?",
    "Can somebody lend me a charger for a week?",
    "Who pays for the licence of the new editor?",
    "I forgot what the password was.",
    "The mouse jumps about like mad.",
    "Please order two chairs for our room.",
]


def test_texts_that_differ_are_no_collapse() -> None:
    own = measured(OWN, num_texts=8, seed=0)

    assert own.distinct2 > 0.95
    assert own.similarity < 0.05
    assert collapse_of(own, own) is None


def test_texts_that_hardly_differ_are_told_with_both_numbers() -> None:
    alike = [f"How do I print on both sides of the {color} paper?" for color in "abcdefgh"]

    told = collapse_of(measured(alike, num_texts=8, seed=0), measured(OWN, num_texts=8, seed=0))

    assert told is not None
    assert "distinct-2 is 0.30, and 0.98 of own questions" in told
    assert "alike on average" in told


def test_few_texts_tell_nothing() -> None:
    few = measured([new_question(1)] * 3, num_texts=3, seed=0)

    assert collapse_of(few, measured(OWN, num_texts=3, seed=0)) is None
