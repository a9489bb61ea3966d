"""Units follow words, whatever way the tokenizer splits them, and never the template."""

from collections.abc import Sequence
from typing import Any

import pytest

from small_models import make_tiny_tokenizer
from tunesmith_api.finetunejob.explain import Units
from tunesmith_trainer.data.rows import Message
from tunesmith_trainer.explain.units import RowText, Stretch, Unit, stretches_of, units_of

SAID = "My printer\ndoes not print. Café 打印?"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tiny_tokenizer()


def a_row(tokenizer: Any, messages: Sequence[Message]) -> RowText:
    prompt = tokenizer.apply_chat_template(
        [turn.as_chat() for turn in messages], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt)["input_ids"]
    return RowText.of(tokenizer, [*ids, *tokenizer("Yes.<|im_end|>")["input_ids"]],
                      num_prompt=len(ids))  # fmt: skip


def units(tokenizer: Any, kind: Units, *, most: int = 99) -> list[Unit]:
    messages = [Message("user", SAID)]
    row = a_row(tokenizer, messages)
    return units_of(row, stretches_of(row, tokenizer, messages), kind=kind, most=most)[1]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("turns", [SAID]),
        ("sentences", ["My printer", "does not print.", "Café 打印?"]),
        ("words", ["My", "printer", "does", "not", "print.", "Café", "打", "印", "?"]),
    ],
)
def test_a_turn_is_taken_apart_and_all_its_tokens_are_in_a_unit(
    tokenizer: Any, kind: Units, texts: list[str]
) -> None:
    found = units(tokenizer, kind)

    assert [unit.text for unit in found] == texts
    tokens = [token for unit in found for token in unit.tokens]
    assert tokens == list(range(tokens[0], tokens[-1] + 1))


def test_words_of_many_tokens_are_one_unit_each(tokenizer: Any) -> None:
    # This tokenizer writes each of these characters as three tokens.
    assert [len(unit.tokens) for unit in units(tokenizer, "words")][6:8] == [3, 3]


def test_neighbours_are_joined_beyond_the_most(tokenizer: Any) -> None:
    found = units(tokenizer, "words", most=3)

    assert [unit.text for unit in found] == ["My printer does", "not print. Café", "打 印 ?"]


def test_auto_takes_words_until_there_are_too_many(tokenizer: Any) -> None:
    messages = [Message("user", SAID)]
    row = a_row(tokenizer, messages)
    stretches = stretches_of(row, tokenizer, messages)

    assert units_of(row, stretches, kind="auto", most=9)[0] == "words"
    assert units_of(row, stretches, kind="auto", most=8)[0] == "sentences"


def test_whose_words_they_are_is_known_where_words_repeat_the_template(tokenizer: Any) -> None:
    messages = [Message("system", "user"), Message("user", "assistant")]
    row = a_row(tokenizer, messages)

    found = stretches_of(row, tokenizer, messages)

    assert [(one.role, row.text[one.start : one.end]) for one in found] == [
        ("system", "user"), ("user", "assistant"),
    ]  # fmt: skip


def test_a_prompt_that_was_cut_is_parted_by_special_tokens(tokenizer: Any) -> None:
    messages = [Message("user", "Long ago. My printer does not print.")]
    whole = a_row(tokenizer, messages)
    cut = RowText.of(tokenizer, whole.ids[20:], num_prompt=whole.num_prompt - 20)

    found = stretches_of(cut, tokenizer, messages)

    assert found
    assert all(one.role == "turn" for one in found)


def test_a_token_of_two_words_belongs_to_the_first() -> None:
    row = RowText((1, 2, 3, 4), 3, "x of the y", ((0, 1), (2, 8), (8, 9), (9, 10)))

    _, found = units_of(row, [Stretch(2, 8, "user", 1)], kind="words", most=9)

    assert [(unit.text, unit.tokens) for unit in found] == [("of the", (1,))]
