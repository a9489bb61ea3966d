"""Terms of groups are found as whole words and swapped with case and grammar."""

import pytest

from tunesmith_api.finetunejob.fairness import TermGroup
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.fairness.terms import Terms, refuse_shared_terms

WOMEN, MEN = 0, 1


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("She lost her keys.", "He lost his keys."),
        ("I saw her.", "I saw him."),
        ("I gave her the book.", "I gave him the book."),
        ("The book is hers, and HER mother knows.", "The book is his, and HIS father knows."),
        ("Ask `her` or see /her/file.", "Ask `her` or see /her/file."),
        ("There are others here.", "There are others here."),
    ],
)
def test_women_become_men(text: str, swapped: str) -> None:
    assert Terms.of([]).swapped(text, source=WOMEN, target=MEN) == swapped


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("He lost his keys.", "She lost her keys."),
        ("I saw him with his.", "I saw her with hers."),
        ("A policeman and a boy.", "A policewoman and a girl."),
    ],
)
def test_men_become_women(text: str, swapped: str) -> None:
    assert Terms.of([]).swapped(text, source=MEN, target=WOMEN) == swapped


def test_groups_of_the_job_in_any_language() -> None:
    terms = Terms.of(
        [
            TermGroup(name="a", terms=["médica", "女人", "black woman"]),
            TermGroup(name="b", terms=["médico", "男人", "white woman"]),
        ]
    )

    assert terms.swapped("La médica habla.", source=0, target=1) == "La médico habla."
    assert terms.swapped("那个女人来了", source=0, target=1) == "那个男人来了"
    assert terms.swapped("A Black woman.", source=0, target=1) == "A White woman."


def test_a_text_is_of_the_one_group_it_names() -> None:
    terms = Terms.of([])

    assert terms.group_of(["my mother", "she"]) == WOMEN
    assert terms.group_of(["my mother and he"]) is None
    assert terms.group_of(["nobody"]) is None


def test_a_term_that_stands_twice_is_refused() -> None:
    twice = [TermGroup(name="a", terms=["nurse"]), TermGroup(name="b", terms=["Nurse"])]

    with pytest.raises(BadInputError, match=r"spec\.groups: the term 'Nurse' stands there twice"):
        refuse_shared_terms(twice, field="groups")
    refuse_shared_terms(twice[:1], field="groups")
