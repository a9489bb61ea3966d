"""What an answer was thought out with: trained as the template writes it, or refused."""

from typing import Any

import pytest

from small_models import CHATML, make_tiny_tokenizer
from tool_template import HERMES
from tunesmith_trainer.data.chat_template import (
    ChatTemplate,
    HiddenToolsError,
    RefusedConversationError,
)
from tunesmith_trainer.data.formats import read_format
from tunesmith_trainer.data.loss_mask import LossMasker
from tunesmith_trainer.data.rows import Message, Problems, RawRow, Row, ToolCall

END = "<|im_end|>"
# As Qwen 3 writes it: only behind the last question, and with calls, too.
QWEN = HERMES.replace(
    "{{ '<|im_start|>assistant' }}{% if m.content %}{{ '\n' + m.content }}{% endif %}",
    "{{ '<|im_start|>assistant\n<think>\n' + m.reasoning_content + '\n</think>\n' }}"
    "{{ m.content }}",
).replace(
    "m.role + '\n' + m.content",
    "m.role + '\n' + ('<think>\n' + m.reasoning_content + '\n</think>\n\n'"
    " if m.reasoning_content and loop.last else '') + m.content",
)
# As gpt-oss: another name of the field. As DeepSeek: the prompt opens the thinking.
OTHER_NAME = QWEN.replace("m.reasoning_content", "m.thinking")
OPENED = QWEN.replace(
    "{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}",
)
ASK = Message("user", "Cold?")
YES = Message("assistant", "Yes.", thinking="It is winter.")


def _row(messages: Any, *, name: str = "messages") -> tuple[list[Row], list[str]]:
    problems = Problems()
    field = {"messages": "messages", "sharegpt": "conversations"}[name]
    raw = [RawRow("a.jsonl:1", {field: messages})]
    return list(read_format(raw, name=name, columns={}, problems=problems)), problems.shown


def _trained(messages: list[Message], template: str) -> str:
    tokenizer = make_tiny_tokenizer(chat_template=template)
    row = LossMasker(tokenizer).mask_answers(ChatTemplate(tokenizer).render(messages))
    ids = [token for token, on in zip(row.ids, row.trained, strict=True) if on]
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_thinking_is_read_by_each_of_its_names(field: str) -> None:
    chat = [{"role": "user", "content": "Cold?", field: None}]
    chat += [{"role": "assistant", "content": "Yes.", field: "It is winter."}]

    (row,), _ = _row(chat)

    assert row.messages == (ASK, YES)
    assert row.messages[1].as_chat()["reasoning_content"] == "It is winter."


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ({"role": "user", "thinking": "Hm."}, "given thinking in a turn of user"),
        ({"role": "assistant", "thinking": "a", "reasoning": "b"}, "and reasoning that differ"),
        ({"role": "assistant", "thinking": ["a"]}, "thinking is text"),
    ],
)
def test_thinking_that_is_none_is_refused(turn: dict[str, Any], said: str) -> None:
    chat = [{"role": "user", "content": "Cold?"}, turn | {"content": "x"}]

    rows, shown = _row(chat)

    assert rows == []
    assert said in shown[0]


@pytest.mark.parametrize("template", [QWEN, OTHER_NAME])
def test_thinking_is_trained_with_its_answer(template: str) -> None:
    thought = "<think>\nIt is winter.\n</think>\n"

    assert _trained([ASK, YES], template) == f"{thought}\nYes.{END}"
    assert _trained([ASK, YES], OPENED) == f"It is winter.\n</think>\n\nYes.{END}"

    calling = Message("assistant", "", (ToolCall("look", {}),), thinking="I do not know.")
    trained = _trained([ASK, calling], template)

    assert trained.startswith("<think>\nI do not know.\n</think>\n")
    assert trained.endswith(f'{{"name": "look", "arguments": {{}}}}\n</tool_call>{END}')


def test_a_template_that_leaves_thinking_out_is_refused() -> None:
    earlier = [ASK, YES, ASK, YES]
    untrained = [ASK, Message("assistant", "Yes.", trained=False, thinking="Hm."), ASK, YES]
    for template, messages in ((CHATML, [ASK, YES]), (QWEN, earlier)):
        with pytest.raises(HiddenToolsError, match="thinking of an answer"):
            ChatTemplate(make_tiny_tokenizer(chat_template=template)).render(messages)

    # Of an answer that is only read, it is left out as servers leave it out.
    rendered = ChatTemplate(make_tiny_tokenizer(chat_template=QWEN)).render(untrained)
    assert "Hm." not in rendered.text


@pytest.mark.parametrize(
    ("raising", "said"),
    [
        ("'roles must alternate'", "roles must alternate"),
        ("'cannot take: ' + messages[0].content", "what it says would repeat the row's own words"),
    ],
)
def test_a_refusal_of_a_template_never_repeats_the_row(raising: str, said: str) -> None:
    template = ChatTemplate(
        make_tiny_tokenizer(chat_template=f"{{{{ raise_exception({raising}) }}}}")
    )

    with pytest.raises(RefusedConversationError) as caught:
        template.render([ASK, YES])

    assert str(caught.value) == said
