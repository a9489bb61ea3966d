"""A chat template of another model is noticed by its marks of turns."""

import pytest

from small_models import CHATML, make_tiny_tokenizer
from tunesmith_trainer.prepare.foreign_template import foreign_marks, warning_of_template

GEMMA = (
    "{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{{ message['content'] }}<end_of_turn>\n{% endfor %}"
)
LLAMA_2 = "{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        (CHATML, []),
        (GEMMA, ["<end_of_turn>", "<start_of_turn>"]),
        (LLAMA_2, []),
        ("{{ raise_exception('no') }}", []),
        (None, []),
    ],
    ids=["its own", "another model's", "marks that are no tokens", "one that refuses", "none"],
)
def test_marks_that_are_no_tokens_of_the_model_are_foreign(
    template: str | None, marks: list[str]
) -> None:
    assert foreign_marks(make_tiny_tokenizer(chat_template=template)) == marks


def test_they_are_named_with_what_to_do() -> None:
    warning = warning_of_template(make_tiny_tokenizer(chat_template=GEMMA))

    assert warning is not None
    assert "<start_of_turn>" in warning
    assert "spec.model.chatTemplate" in warning
