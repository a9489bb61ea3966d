"""Calls of tools are trained whole, as the template writes them; one that hides them is refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from small_models import CHATML, SPECIAL_TOKENS, make_tiny_tokenizer
from tool_template import HERMES
from tunesmith_trainer.data.chat_template import ChatTemplate, HiddenToolsError
from tunesmith_trainer.data.loss_mask import LossMasker
from tunesmith_trainer.data.rows import Message, ToolCall

END = "<|im_end|>"
# As Qwen 3 does: the last answer has empty thoughts, earlier ones lose them.
THINKING = HERMES.replace(
    "{{ '<|im_start|>assistant' }}{% if m.content %}{{ '\n' + m.content }}{% endif %}",
    "{{ '<|im_start|>assistant\n' + ('<think>\n\n</think>\n\n' if loop.last else '') }}"
    "{{ m.content }}",
).replace(
    "m.role + '\n' + m.content",
    "m.role + '\n' + ('<think>\n\n</think>\n\n' if m.role == 'assistant' and loop.last else '')"
    " + m.content",
)
# As Mistral does: no line end before a call, and the tool is named again with its result.
NAMING = HERMES.replace(
    "'<|im_start|>user\n<tool_response>\n' + m.content",
    "'<|im_start|>tool ' + messages[loop.index0 - 1].tool_calls[0].function.name + m.content",
)
TOOLS = ({"type": "function", "function": {"name": "weather", "parameters": {}}},)
ASK = Message("user", "Cold?")
RESULT = Message("tool", "-3", tool_call_id="c1")
YES = Message("assistant", "Yes.")

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda text: not any(token in text for token in SPECIAL_TOKENS)
)
ARGUMENTS = st.dictionaries(WORDS, WORDS | st.integers() | st.none() | st.lists(WORDS), max_size=3)
NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)


def _calling(*calls: ToolCall, content: str = "") -> Message:
    return Message("assistant", content, tool_calls=calls)


def _trained(messages: list[Message], tokenizer: Any) -> tuple[str, str]:
    """What is trained of a row, and the words of its last answer."""
    rendered = ChatTemplate(tokenizer).render(messages, tools=TOOLS)
    row = LossMasker(tokenizer).mask_answers(rendered)
    ids = [token for token, on in zip(row.ids, row.trained, strict=True) if on]
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False), rendered.last_words


TOKENIZERS = {
    name: make_tiny_tokenizer(chat_template=template)
    for name, template in (("hermes", HERMES), ("thinking", THINKING), ("naming", NAMING))
}


@pytest.mark.parametrize("template", TOKENIZERS)
def test_a_call_is_trained_whole_and_so_is_the_answer_behind_it(template: str) -> None:
    call = ToolCall("weather", {"at": "Oslo"}, id="c1")

    trained, last = _trained([ASK, _calling(call), RESULT, YES], TOKENIZERS[template])

    body = '<tool_call>\n{"name": "weather", "arguments": {"at": "Oslo"}}\n</tool_call>'
    # Behind the mark of the turn, the line end is the prompt's, and a call's second the model's.
    assert trained.replace(f"\n{body}", body) == f"{body}{END}Yes.{END}"
    assert last == "Yes."


@settings(max_examples=15)
@given(calls=st.lists(st.builds(ToolCall, NAMES, ARGUMENTS), min_size=1, max_size=2), again=NAMES)
def test_every_call_is_trained_and_nothing_around_it(calls: list[ToolCall], again: str) -> None:
    tokenizer = TOKENIZERS["hermes"]
    messages = [ASK, _calling(*calls), RESULT, _calling(ToolCall(again, {}))]

    trained, last = _trained(messages, tokenizer)

    first, rest = trained.split(END, 1)
    assert (first.count("</tool_call>"), rest) == (len(calls), f"{last}{END}")
    assert all(f'{{"name": "{call.name}", "arguments": {{' in first for call in calls)
    assert "tool_response" not in trained
    assert last.strip().startswith(f'<tool_call>\n{{"name": "{again}"')


@pytest.mark.parametrize(
    ("template", "messages", "fields"),
    [
        (CHATML, [ASK, YES], "tools"),
        (CHATML, [ASK, _calling(ToolCall("weather", {})), RESULT, YES], "tools, tool_calls"),
        (HERMES.replace("{% if m.content %}{{ '\n' + m.content }}{% endif %}", ""),
         [ASK, _calling(ToolCall("weather", {}), content="Let me look.")],
         "content beside tool_calls"),
        (HERMES.replace("\n' + m.content + '\n</tool_response>", "</tool_response>"),
         [ASK, _calling(ToolCall("weather", {})), RESULT, YES], "turns of tool"),
    ],
)  # fmt: skip
def test_a_template_that_hides_what_a_row_says_of_tools_is_refused(
    template: str, messages: list[Message], fields: str
) -> None:
    template_of = ChatTemplate(make_tiny_tokenizer(chat_template=template))

    with pytest.raises(HiddenToolsError, match=f"^{fields}$"):
        template_of.render(messages, tools=TOOLS)
