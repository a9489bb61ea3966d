"""Conversations with the token ids that the model's chat template makes of them, for `verify`.

A server whose template is another one answers token ids as before, and every client wrongly: only
the ids that it makes of messages tell. `verify` and the replicas compare theirs with these.
"""

import json
from copy import deepcopy
from typing import Any, Final

from jinja2 import TemplateError
from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, Any]]

# One turn, several, and several behind a system message, which some templates refuse. Blanks at the
# ends of a message are kept by some templates and cut off by others.
CONVERSATIONS: Final[tuple[Messages, ...]] = (
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "user", "content": " What is 17 plus 25?\n"},
        {"role": "assistant", "content": "It is 42."},
        {"role": "user", "content": "And 17 minus 25?"},
    ],
    [
        {"role": "system", "content": "You answer in one word."},
        {"role": "user", "content": "Who wrote the play Hamlet?"},
        {"role": "assistant", "content": "Shakespeare"},
        {"role": "user", "content": "Is a tomato a fruit or a vegetable?"},
    ],
)


# As OpenAI's protocol has them, with the arguments as text; servers hand templates the object.
TOOLS: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        # NB: all three, in this order: vLLM brings them into it, and a missing one as null.
        "function": {
            "name": "get_temperature",
            "description": "The temperature in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
CALLING: Final[Messages] = [
    {"role": "user", "content": "Is it cold in Oslo?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                # Nine letters and digits: Mistral's templates refuse any other.
                "id": "call00001",
                "type": "function",
                "function": {"name": "get_temperature", "arguments": '{"city": "Oslo"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call00001", "content": "-3"},
]


def known_chats(tokenizer: PreTrainedTokenizerBase) -> list[JsonValue]:
    """`messages` and `promptIds` of each conversation; none of a tokenizer without a template.

    The last has `tools`, calls and results, and is there where the template shows all of them. Left
    out are those that the template refuses, and those into which it writes the date: they would be
    others tomorrow.
    """
    chats: list[JsonValue] = []
    if tokenizer.chat_template is None:
        return chats
    for messages in CONVERSATIONS:
        text = _lasting(tokenizer, messages)
        if text is not None:
            chats.append({"messages": [*messages], "promptIds": _ids(tokenizer, text)})
    text = _lasting(tokenizer, _with_objects(CALLING), tools=TOOLS)
    if text is not None and _shows_tools(text):
        chats.append(
            {"messages": [*CALLING], "tools": [*TOOLS], "promptIds": _ids(tokenizer, text)}
        )
    return chats


def _lasting(tokenizer: PreTrainedTokenizerBase, messages: Messages, **given: object) -> str | None:
    """What the template makes of a conversation, if it takes it, and makes the same tomorrow."""
    try:
        text = _rendered(tokenizer, messages, **given)
        # Its own clock, in place of the one that templates are given.
        undated = _rendered(tokenizer, messages, **given, strftime_now=lambda _: "")
    # TypeError: it takes a call's arguments for text, say.
    except (TemplateError, TypeError):
        return None
    return text if text == undated else None


def _with_objects(messages: Messages) -> Messages:
    """The conversation with arguments as objects, as servers hand them to templates."""
    turns = deepcopy(messages)
    for call in (call for turn in turns for call in turn.get("tool_calls", ())):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return turns


def _shows_tools(text: str) -> bool:
    # The description stands in the list alone, the argument in the call, the number in the result.
    return all(words in text for words in ("The temperature in a city.", '"Oslo"', "-3"))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[JsonValue]:
    # NB: the template has rendered the special tokens; see `chat_prompt_ids`.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Messages, **given: object) -> str:
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **given)
    )
