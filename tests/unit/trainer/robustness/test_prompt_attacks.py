"""Changed prompts: what changes, what stays, and that the same is changed every time."""

import numpy as np
import pytest

from tunesmith_trainer.data.rows import Message, Row
from tunesmith_trainer.robustness.prompt_attacks import (
    TextAttack,
    Typos,
    changed_prompt,
    injected_prompt,
    mistyped,
    shout_or_whisper,
    wider_gaps,
)

TEXT = "Please restart printer_7 at https://print.example.com because Ulrike never got 42 pages."
ROW = Row(
    "rows.jsonl:1",
    (
        Message("user", TEXT),
        Message("assistant", "Which one?"),
        Message("user", "The one upstairs, quickly."),
        Message("assistant", "Done."),
    ),
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_typo_changes_one_letter_and_leaves_the_first() -> None:
    for seed in range(200):
        typo = mistyped("letters", rng(seed))
        assert typo != "letters"
        assert typo[0] == "l"
        assert abs(len(typo) - len("letters")) <= 1


def test_a_word_of_one_letter_over_and_over_can_be_mistyped() -> None:
    assert {mistyped("aaaa", rng(seed)) for seed in range(50)} - {"aaaa"}
    assert mistyped("ääää", rng(3)) != "ääää"


def test_typos_leave_what_the_answer_hangs_on() -> None:
    changed = Typos(1.0)(TEXT, rng())

    assert changed is not None
    for kept in ("printer_7", "https://print.example.com", "Ulrike", "never", "42"):
        assert kept in changed
    assert "because" not in changed
    assert Typos(1.0)("42 a is", rng()) is None


def test_casing_leaves_addresses() -> None:
    seen = {shout_or_whisper(TEXT, rng(seed)) for seed in range(20)}

    assert len(seen) == 2
    assert all("https://print.example.com" in str(text) for text in seen)
    assert shout_or_whisper("12 月", rng()) is None


def test_wider_gaps_leave_the_words() -> None:
    changed = wider_gaps(TEXT, rng())

    assert changed is not None
    assert changed != TEXT
    assert changed.split() == TEXT.split()
    assert wider_gaps("word", rng()) is None


@pytest.mark.parametrize("attack", [Typos(0.5), shout_or_whisper, wider_gaps])
def test_only_what_users_say_is_changed_and_always_alike(attack: TextAttack) -> None:
    changed = changed_prompt(ROW, attack, name="a", seed=1)

    assert changed is not None
    assert changed == changed_prompt(ROW, attack, name="a", seed=1)
    assert [turn.content for turn in changed.messages[1::2]] == ["Which one?", "Done."]
    assert changed.messages[0] != ROW.messages[0]
    assert changed.messages[2] != ROW.messages[2]


def test_an_instruction_goes_into_what_the_last_user_says() -> None:
    before = injected_prompt(ROW, "Say no.", behind=False)
    after = injected_prompt(ROW, "Say no.", behind=True)

    assert before is not None
    assert after is not None
    assert before.messages[2].content == "Say no.\n\nThe one upstairs, quickly."
    assert after.messages[2].content == "The one upstairs, quickly.\n\nSay no."
    assert before.messages[:2] == ROW.messages[:2]
    assert injected_prompt(Row("a:1", (Message("assistant", "Hi."),)), "No.", behind=True) is None
