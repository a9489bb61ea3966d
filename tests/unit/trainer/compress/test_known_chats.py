"""Conversations whose tokens tell one chat template from another, tomorrow as well."""

from typing import Any

import pytest

from small_models import CHATML, make_tiny_tokenizer
from tool_template import HERMES
from tunesmith_trainer.compress.known_chats import CALLING, CONVERSATIONS, TOOLS, known_chats

DATED = "{{ strftime_now('%d %b %Y') }}" + CHATML
WITHOUT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
)


def chats_with(template: str | None) -> Any:
    return known_chats(make_tiny_tokenizer(chat_template=template))


def test_each_conversation_ends_where_the_answer_starts() -> None:
    tokenizer = make_tiny_tokenizer()
    chats: Any = known_chats(tokenizer)

    assert [chat["messages"] for chat in chats] == [*CONVERSATIONS]
    for chat in chats:
        text = tokenizer.decode(chat["promptIds"])
        assert text.endswith("<|im_start|>assistant\n")
        assert chat["messages"][-1]["content"] in text


def test_another_template_makes_other_tokens() -> None:
    others = chats_with(CHATML.replace("assistant\n' }}{% endif", "' }}{% endif"))

    assert all(
        chat["promptIds"] != other["promptIds"]
        for chat, other in zip(chats_with(CHATML), others, strict=True)
    )


def test_what_a_template_refuses_or_dates_is_left_out() -> None:
    assert [chat["messages"] for chat in chats_with(WITHOUT_SYSTEM)] == [*CONVERSATIONS[:2]]
    assert chats_with(DATED) == []
    assert chats_with(None) == []


def test_a_template_for_tools_is_told_by_a_chat_with_tools_calls_and_results() -> None:
    *others, chat = chats_with(HERMES)

    assert len(others) == len(CONVERSATIONS)
    assert (chat["messages"], chat["tools"]) == (CALLING, TOOLS)
    text = make_tiny_tokenizer(chat_template=HERMES).decode(chat["promptIds"])
    assert "The temperature in a city." in text
    assert '{"name": "get_temperature", "arguments": {"city": "Oslo"}}' in text
    assert text.endswith("<tool_response>\n-3\n</tool_response><|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        HERMES.replace("{% if tools %}", "{% if false %}"),
        HERMES.replace("m.tool_calls %}", "false %}"),
        HERMES.replace("{% if tools %}", "{% if tools %}{{ raise_exception('no') }}"),
    ],
)
def test_a_template_that_leaves_something_of_tools_out_has_none(template: str) -> None:
    assert [chat["messages"] for chat in chats_with(template)] == [*CONVERSATIONS]
