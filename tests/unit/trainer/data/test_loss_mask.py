"""Exactly the assistant's words and the tokens that end them are trained, whatever the template."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from small_models import CHATML, SPECIAL_TOKENS, make_tiny_tokenizer
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.chat_template import (
    ChatTemplate,
    RefusedConversationError,
    UnclearAnswerError,
)
from tunesmith_trainer.data.loss_mask import LossMasker, TokenRow
from tunesmith_trainer.data.rows import Message

TOKENIZER = make_tiny_tokenizer()
END = "<|im_end|>"

TRIMMING = CHATML.replace("message['content']", "message['content'] | trim")
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<|im_start|>[INST] ' + message['content'] + ' [/INST]' }}{% else %}"
    "{{ ' ' + message['content'] + ' <|im_end|>' }}{% endif %}{% endfor %}"
)
NO_THINKING = CHATML.replace(
    "{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"
).replace(
    "'\n' + message['content']",
    "'\n' + ('<think>\n\n</think>\n\n' if loop.last else '') + message['content']",
)
SPACED = CHATML.replace("assistant\n' }}", "assistant\nSay: ' }}").replace(
    "'\n' + message['content']",
    "('\nSay: ' if message['role'] == 'assistant' else '\n') + message['content']",
)
UPPER = CHATML.replace("message['content']", "message['content'] | upper")
REPLACING = CHATML.replace("message['content']", "message['content'] | replace('Me', 'We')")
ANSWERS = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'] }}<|im_end|>{% endif %}{% endfor %}"
)
ENDLESS = CHATML.replace("message['content'] + '<|im_end|>'", "message['content']")
ONLY_USERS = CHATML.replace(
    "{% for message in messages %}",
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}",
    1,
)

# Not the words of special tokens, which are refused before; no halves of surrogate pairs.
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() and not any(token in text for token in SPECIAL_TOKENS)
)


def _with(template: str) -> Any:
    return make_tiny_tokenizer(chat_template=template)


def _masked(*turns: str, tokenizer: Any = TOKENIZER) -> TokenRow:
    messages = [
        Message(role="assistant" if at % 2 else "user", content=turn)
        for at, turn in enumerate(turns)
    ]
    return LossMasker(tokenizer).mask_answers(ChatTemplate(tokenizer).render(messages))


def _trained(row: TokenRow, tokenizer: Any = TOKENIZER) -> str:
    return str(tokenizer.decode([id_ for id_, on in zip(row.ids, row.trained, strict=True) if on]))


@settings(max_examples=60)
@given(question=WORDS, first=WORDS, second=WORDS)
@example(question="Who?", first="\nMe.", second="Me.\n")
@example(question="Who?", first=" é🎉", second="10 20")
def test_what_is_trained_decodes_to_the_answers_and_their_ends(
    question: str, first: str, second: str
) -> None:
    row = _masked(question, first, question, second)

    assert _trained(row) == f"{first}{END}{second}{END}"
    assert not row.trained[0]


@pytest.mark.parametrize(
    ("template", "trained"),
    [
        (TRIMMING, f"Me.{END}You.{END}"),
        (LLAMA_2, f"  Me.  {END} You. {END}"),
        (NO_THINKING, f" Me. {END}You.{END}"),
        (SPACED, f" Me. {END}You.{END}"),
    ],
    ids=["trimming", "space before and after answers", "empty thoughts", "prompt ends in a space"],
)
def test_templates_that_trim_or_add_train_the_words_alone(template: str, trained: str) -> None:
    tokenizer = _with(template)

    row = _masked("Who?", " Me. ", "Who?", "You.", tokenizer=tokenizer)

    assert _trained(row, tokenizer) == trained


def test_tokens_before_the_answer_are_those_of_the_prompt() -> None:
    row = _masked("Who?", "\n\nMe.")

    prompt = (
        ChatTemplate(TOKENIZER)
        .render(
            [Message(role="user", content="Who?"), Message(role="assistant", content="\n\nMe.")]
        )
        .prompt
    )
    first = row.trained.index(True)

    assert list(row.ids[:first]) == TOKENIZER(prompt, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (UPPER, "changes its every word"),
        (REPLACING, "changes the assistant's words"),
        (ENDLESS, "never learn to stop"),
        ("{{ messages[0]['content'] }}", "leaves an answer out"),
        (ANSWERS, "nothing stands before the answer"),
    ],
)
def test_a_template_that_hides_the_answer_is_refused(template: str, said: str) -> None:
    with pytest.raises(UnclearAnswerError, match=said):
        _masked("Who?", "Me.", tokenizer=_with(template))


def test_a_conversation_that_the_template_refuses_is_refused_in_its_words() -> None:
    messages = [Message(role="system", content="x"), Message(role="assistant", content="y")]

    with pytest.raises(RefusedConversationError, match="System role not supported"):
        ChatTemplate(_with(ONLY_USERS)).render(messages)


def test_a_template_that_is_no_jinja_is_bad_input() -> None:
    with pytest.raises(BadInputError, match="not valid Jinja"):
        _masked("Who?", "Me.", tokenizer=_with("{% for %}"))


def test_all_of_a_text_but_its_first_token_is_trained() -> None:
    row = LossMasker(TOKENIZER).mask_text("My printer")

    assert row.trained == (False,) + (True,) * (len(row.ids) - 1)
    assert TOKENIZER.decode(list(row.ids)) == f"My printer{END}"
