"""Conversations with the token ids that the model's chat template makes of them, for `verify`.

A server whose template is another one answers token ids as before, and every client wrongly: only
the ids that it makes of messages tell. `verify` and the replicas compare theirs with these.
"""

from typing import Final

from jinja2 import TemplateError
from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]

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


def known_chats(tokenizer: PreTrainedTokenizerBase) -> list[JsonValue]:
    """`messages` and `promptIds` of each conversation; none of a tokenizer without a template.

    Left out are those that the template refuses, and those into which it writes the date: they
    would be others tomorrow.
    """
    chats: list[JsonValue] = []
    if tokenizer.chat_template is None:
        return chats
    for messages in CONVERSATIONS:
        try:
            text = _rendered(tokenizer, messages)
            # Its own clock, in place of the one that templates are given.
            is_dated = text != _rendered(tokenizer, messages, strftime_now=lambda _: "")
        except TemplateError:
            continue
        if not is_dated:
            # NB: the template has rendered the special tokens; see `chat_prompt_ids`.
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            turns: list[JsonValue] = [{**message} for message in messages]
            chats.append({"messages": turns, "promptIds": list(ids)})
    return chats


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Messages, **given: object) -> str:
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **given)
    )
