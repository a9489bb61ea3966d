"""The token that a model was trained to see in front of every text, where there is one.

Without it Gemma 3 scores plain text at 6.1 nats a token instead of 1.9. Conversations have it from
their chat template; plain text, trained or scored, gets it here.
"""

from typing import TYPE_CHECKING

from jinja2 import TemplateError

from tunesmith_trainer.data.chat_template import template_time_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A template that names its begin token writes it once, however many turns there are.
_TURNS = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
]


def begin_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What stands in front of every plain text: the id of the begin token, or nothing.

    Texts are then tokenized without the tokenizer's own special tokens, or it would stand twice.
    Either the tokenizer puts it in front of texts itself, or the chat template opens every
    conversation with it. `bos_token` alone says nothing: SmolLM2's is its mark of a turn.

    Raises:
        BadInputError: the template takes too long.
    """
    begin = tokenizer.bos_token_id
    if begin is None:
        return []
    adds_it = tokenizer("a")["input_ids"][:1] == [begin]
    return [begin] if adds_it or _opens_conversations(tokenizer) else []


def _opens_conversations(tokenizer: "PreTrainedTokenizerBase") -> bool:
    if not tokenizer.chat_template:
        return False
    try:
        with template_time_limit():
            rendered = str(tokenizer.apply_chat_template(_TURNS, tokenize=False))
    except (TemplateError, ValueError, TypeError):
        # It refuses such a conversation, and so says nothing of how one begins.
        return False
    mark = str(tokenizer.bos_token)
    # Once: a token that opens every turn is no begin of a text.
    return rendered.startswith(mark) and rendered.count(mark) == 1
