"""Conversations to the text that the model sees, and where in it the assistant speaks.

Follows `cleaning`; `loss_mask` makes tokens of it. Jinja's `{% generation %}` marks, which would
say which part is the answer, stand in few models' templates, so the answer is searched for: the
conversation is rendered a second time with a mark in the place of each answer, and the text between
the marks must stand, unchanged, around the answers. Templates that trim turns, insert a system turn
or put blocks before an answer pass this; one that alters the assistant's words does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from jinja2 import TemplateError, TemplateSyntaxError

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.rows import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Letters and digits alone, so that no template trims, escapes or splits it; with an end of its own,
# so that mark 1 is not found in mark 10.
_MARK: Final = "TunesmithMark{number}EndOfMark"


class UnclearAnswerError(Exception):
    """The template hides what of its text is the answer; the message says how."""

    def __init__(self, message: str, *, rendered: str) -> None:
        super().__init__(message)
        self.rendered = rendered


class RefusedConversationError(Exception):
    """The template itself refuses the conversation, such as a system turn it does not know."""


@dataclass(frozen=True, slots=True)
class Span:
    """One answer in the rendered text, as positions of characters.

    Attributes:
        start: where the model begins to speak: the end of the generation prompt.
        end: the end of the assistant's words; the token that ends the turn follows.
    """

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, its answers, and the prompt of the last of them."""

    text: str
    answers: tuple[Span, ...]
    prompt: str


class ChatTemplate:
    """The chat template of a tokenizer, which renders conversations."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Render a conversation.

        Raises:
            RefusedConversationError: the template refuses it.
            UnclearAnswerError: the answers cannot be found in what the template makes of it.
            BadInputError: the template is no valid Jinja.
        """
        text = self._apply(messages)
        spans = _answers_in(text, messages, around=self._around(messages))
        at = [index for index, turn in enumerate(messages) if turn.role == "assistant"]
        # NB: the prompt is rendered from the turns before the answer, never cut out of the whole
        # text: that is what a server does, and a template may write earlier turns in another way
        # once later ones follow.
        prompts = [self._apply(messages[:index], generate=True) for index in at]
        answers = [
            Span(start=_start_of_speech(text, prompt, words=span), end=span.end)
            for prompt, span in zip(prompts, spans, strict=True)
        ]
        if answers[0].start == 0:
            raise UnclearAnswerError("nothing stands before the answer", rendered=text)
        return Rendered(text=text, answers=tuple(answers), prompt=prompts[-1])

    def _around(self, messages: Sequence[Message]) -> list[str]:
        """The pieces of the text before, between and after the answers."""
        marks: list[str] = []
        marked = []
        for message in messages:
            if message.role == "assistant":
                marks.append(_MARK.format(number=len(marks)))
                marked.append(Message(role=message.role, content=marks[-1]))
            else:
                marked.append(message)
        rest, pieces = self._apply(marked), []
        for mark in marks:
            piece, separator, rest = rest.partition(mark)
            if not separator:
                raise UnclearAnswerError(
                    "the template leaves an answer out, or changes its every word", rendered=rest
                )
            pieces.append(piece)
        return [*pieces, rest]

    def _apply(self, messages: Sequence[Message], *, generate: bool = False) -> str:
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        # A conversation may begin with the assistant. Templates look at messages[0], and would fail
        # on the empty prompt of that answer.
        if not turns:
            return ""
        try:
            return self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=generate
            )
        except TemplateSyntaxError as error:
            raise BadInputError(
                Reason.INVALID_SPEC,
                f"the chat template is not valid Jinja: {error.message}, line {error.lineno}; "
                "mend spec.model.chatTemplate",
            ) from error
        # raise_exception() of a template arrives as this: it wants other turns, such as
        # alternating.
        except TemplateError as error:
            raise RefusedConversationError(str(error)) from error


def _answers_in(text: str, messages: Sequence[Message], *, around: list[str]) -> list[Span]:
    """The assistant's words in `text`, given what stands around them.

    Raises:
        UnclearAnswerError: something else stands there.
    """
    spoken = [turn.content for turn in messages if turn.role == "assistant"]
    spans, at = [], 0
    for words, (before, after) in zip(spoken, pairwise(around), strict=True):
        at += len(before)
        # As written first: white space that a template keeps is part of what is trained.
        forms = (words, words.rstrip(), words.lstrip(), words.strip())
        shown = next((form for form in forms if text.startswith(form + after, at)), None)
        if shown is None:
            raise UnclearAnswerError(
                "the template changes the assistant's words, or what stands around them "
                f"depends on them; its answer begins {words[:40]!r}",
                rendered=text,
            )
        spans.append(Span(start=at, end=at + len(shown)))
        at += len(shown)
    if not text.startswith(around[0]) or at + len(around[-1]) != len(text):
        raise UnclearAnswerError(
            "the template adds text that depends on the answers", rendered=text
        )
    return spans


def _start_of_speech(text: str, prompt: str, *, words: Span) -> int:
    """Where the model takes over: white space that the prompt leaves out is spoken by the model."""
    gap = text[len(prompt) : words.start]
    is_prefix = len(prompt) <= words.start and text.startswith(prompt)
    return len(prompt) if prompt and is_prefix and not gap.strip() else words.start
