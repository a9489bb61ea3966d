"""Does the chat template speak the model's language? Its marks of turns are tokens of the model.

A mark that the tokenizer takes apart, `<|im_start|>` in a Llama say, was never seen in training:
the model has to learn what a turn is from the job's rows alone.
"""

import re
from typing import TYPE_CHECKING, Final

from jinja2 import TemplateError

from tunesmith_trainer.data.chat_template import template_time_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# <|im_start|>, <start_of_turn>, </s>, and DeepSeek's, whose bars are wide ones. Marks in brackets
# are not: Llama 2 was trained with [INST] in several tokens.
_MARK: Final = re.compile(r"</?[|\uff5c]?\w[\w\u2581 -]*[|\uff5c]?>")
_TURNS: Final = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def foreign_marks(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The marks that the template writes and the tokenizer has no token for, sorted.

    Raises:
        BadInputError: the template takes too long.
    """
    if not tokenizer.chat_template:
        return []
    try:
        with template_time_limit():
            rendered = str(tokenizer.apply_chat_template(_TURNS, tokenize=False))
    except (TemplateError, ValueError):
        # Rows that it refuses are told of with their line.
        return []
    marks = sorted(set(_MARK.findall(rendered)))
    return [
        mark for mark in marks if len(tokenizer(mark, add_special_tokens=False)["input_ids"]) > 1
    ]


def warning_of_template(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """A warning where the template looks like another model's."""
    marks = foreign_marks(tokenizer)
    if not marks:
        return None
    return (
        f"the chat template writes {', '.join(marks)}, and the model has no such token: is it "
        "another model's? It has never seen them; set spec.model.chatTemplate to its own"
    )
