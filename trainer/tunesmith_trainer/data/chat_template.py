"""Conversations to the text that the model sees, and where in it the assistant speaks.

Follows `cleaning`; `loss_mask` makes tokens of it. Jinja's `{% generation %}` marks, which would
say which part is the answer, stand in few models' templates, so the answer is searched for: the
conversation is rendered a second time with a mark in the place of each answer, and the text between
the marks must stand, unchanged, around the answers. Templates that trim turns, insert a system turn
or put blocks before an answer pass this; one that alters the assistant's words does not.

How a template writes the calls of tools is its own business. So the name of an answer's first call
is marked instead of its words, and where the answer begins and ends around that name is learnt from
the same turn with a mark as its whole content: what stands before and behind that is no answer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.rows import Message, Tool, ToolCall
from tunesmith_trainer.data.time_limit import OverTimeError, time_limit
from tunesmith_trainer.data.tool_turns import MARK, MarkedTools, has_tools

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A loop within a loop ends the sandbox's patience never; a page of turns takes milliseconds.
_LONGEST_S: Final = 20.0
# In the place of every word of a row, to see whether a template says the same without them.
_OTHER: Final = MARK.format(number=0)
_OTHER_TOOLS: Final[tuple[Tool, ...]] = (
    {"type": "function", "function": {"name": _OTHER, "description": _OTHER, "parameters": {}}},
)


_FAULTS_OF_TEMPLATES: Final = (
    TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError,
    MemoryError,
)  # fmt: skip


class UnclearAnswerError(Exception):
    """The template hides what of its text is the answer; the message says how."""

    def __init__(self, message: str, *, rendered: str) -> None:
        super().__init__(message)
        self.rendered = rendered


class HiddenToolsError(Exception):
    """The template leaves out what the row says of tools or thinking; `fields` are what."""

    def __init__(self, fields: Sequence[str], *, rendered: str) -> None:
        super().__init__(", ".join(fields))
        self.fields = tuple(fields)
        self.rendered = rendered


class RefusedConversationError(Exception):
    """The template itself refuses the conversation, such as a system turn it does not know.

    The message is the template's own, where it has no words of the row.
    """


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
    """A conversation as text, its answers, and the prompt and the words of the last of them."""

    text: str
    answers: tuple[Span, ...]
    prompt: str
    last_words: str


@contextmanager
def template_time_limit() -> Iterator[None]:
    """What is rendered in the block, of one conversation, ends in time.

    Raises:
        BadInputError: it does not.
    """
    try:
        with time_limit(_LONGEST_S):
            yield
    except OverTimeError as error:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"the chat template takes more than {_LONGEST_S:g} s for one conversation; mend "
            "its loops, by spec.model.chatTemplate where it is the model's own",
        ) from error


class ChatTemplate:
    """The chat template of a tokenizer, which renders conversations."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    def render(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> Rendered:
        """Render a conversation, whose answers may call `tools`.

        Raises:
            RefusedConversationError: the template refuses it.
            HiddenToolsError: the template does not show what the row says of tools, or what an
                answer that is trained was thought out with.
            UnclearAnswerError: the answers cannot be found in what the template makes of it.
            BadInputError: the template is no valid Jinja, or takes too long.
        """
        # NB: once for all that is rendered of a conversation. To set a clock takes as long as a
        # short rendering.
        with template_time_limit():
            return self._rendered(messages, tools)

    def _rendered(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Rendered:
        try:
            text = self._apply(messages, tools)
        except RefusedConversationError as refused:
            self._refuse_without_words(str(refused), messages, tools)
        if has_tools(messages, tools) or any(turn.thinking for turn in messages):
            self._refuse_hidden(messages, tools)
        spans = _slots_in(text, messages, around=self._around(messages, tools))
        at = [index for index, turn in enumerate(messages) if turn.role == "assistant"]
        spans = [
            self._whole(messages[: index + 1], tools, name=span, text=text)
            if messages[index].tool_calls
            else span
            for index, span in zip(at, spans, strict=True)
        ]
        # NB: the prompt is rendered from the turns before the answer, never cut out of the whole
        # text: that is what a server does, and a template may write earlier turns in another way
        # once later ones follow.
        prompts = [self._apply(messages[:index], tools, generate=True) for index in at]
        answers = [
            Span(
                start=_start_of_speech(text, prompt, words=span, turn=messages[index]), end=span.end
            )
            for index, prompt, span in zip(at, prompts, spans, strict=True)
        ]
        if answers[0].start == 0:
            raise UnclearAnswerError("nothing stands before the answer", rendered=text)
        return Rendered(
            text=text,
            answers=tuple(answers),
            prompt=prompts[-1],
            last_words=text[spans[-1].start : spans[-1].end],
        )

    def _refuse_without_words(
        self, said: str, messages: Sequence[Message], tools: Sequence[Tool]
    ) -> NoReturn:
        """Refuse with what the template says, if it says the same of a row with other words."""
        try:
            self._apply([_without_words(turn) for turn in messages], _OTHER_TOOLS if tools else ())
        except RefusedConversationError as refused:
            if str(refused) == said:
                raise
        raise RefusedConversationError("what it says would repeat the row's own words")

    def _refuse_hidden(self, messages: Sequence[Message], tools: Sequence[Tool]) -> None:
        marked = MarkedTools(messages, tools)
        rendered = self._apply(marked.messages, marked.tools)
        if fields := marked.hidden_in(rendered):
            raise HiddenToolsError(fields, rendered=rendered)

    def _around(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[str]:
        """The pieces of the text before, between and after the answers, or their calls' names."""
        marks: dict[str, Message] = {}
        marked = []
        for message in messages:
            if message.role == "assistant":
                mark = MARK.format(number=len(marks))
                marks[mark] = message
                marked.append(_marked(message, mark))
            else:
                marked.append(message)
        rest, pieces = self._apply(marked, tools), []
        for mark, message in marks.items():
            piece, separator, rest = rest.partition(mark)
            if not separator:
                raise UnclearAnswerError(
                    "the template leaves an answer out, or changes its every word", rendered=rest
                )
            if message.tool_calls:
                # Some templates name the tool again in the turn of its result.
                rest = rest.replace(mark, message.tool_calls[0].name)
            pieces.append(piece)
        return [*pieces, rest]

    def _whole(
        self, messages: Sequence[Message], tools: Sequence[Tool], *, name: Span, text: str
    ) -> Span:
        """The whole of the last answer, whose first call has its name at `name` in `text`."""
        mark, (*before, answer) = MARK.format(number=0), messages
        alone = self._apply(messages, tools)
        at_name = self._apply([*before, _marked(answer, mark)], tools).find(mark)
        plain = self._apply([*before, Message("assistant", mark, thinking=answer.thinking)], tools)
        opening, _, closing = plain.partition(mark)
        # Templates may put white space before words that they do not put before a call.
        start = _num_shared(opening, alone)
        words = alone[start : len(alone) - len(closing)]
        # A template may write the turn in another way once others follow; not its calls, though.
        moved = start + name.start - at_name
        if (
            opening[start:].strip()
            or not alone.endswith(closing)
            or not start <= at_name < start + len(words)
            or not text.startswith(words, moved)
        ):
            raise UnclearAnswerError(
                "the template writes a call of a tool in another turn than an answer in words, or "
                "in another way once the tool has answered",
                rendered=text,
            )
        return Span(start=moved, end=moved + len(words))

    def _apply(
        self, messages: Sequence[Message], tools: Sequence[Tool], *, generate: bool = False
    ) -> str:
        # A conversation may begin with the assistant. Templates look at messages[0], and would fail
        # on the empty prompt of that answer.
        if not messages:
            return ""
        try:
            return self._tokenizer.apply_chat_template(
                [turn.as_chat() for turn in messages],
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=generate,
            )
        except TemplateSyntaxError as error:
            raise BadInputError(
                Reason.INVALID_SPEC,
                f"the chat template is not valid Jinja: {error.message}, line {error.lineno}; "
                "mend spec.model.chatTemplate",
            ) from error
        # raise_exception() of a template arrives as the first: it wants other turns, such as
        # alternating. The others are faults of its own, which takes a call's arguments for text,
        # say, or divides by nothing.
        except (TemplateError, *_FAULTS_OF_TEMPLATES) as error:
            raise RefusedConversationError(str(error) or type(error).__name__) from error


def _num_shared(first: str, second: str) -> int:
    """Characters that both texts begin with."""
    pairs = zip(first, second, strict=False)
    differing = (at for at, (left, right) in enumerate(pairs) if left != right)
    return next(differing, min(len(first), len(second)))


def _marked(message: Message, mark: str) -> Message:
    """The answer with the mark in the place of its words, or of the name of its first call."""
    if not message.tool_calls:
        return message.with_content(mark)
    first, *others = message.tool_calls
    return replace(message, tool_calls=(replace(first, name=mark), *others))


def _slots_in(text: str, messages: Sequence[Message], *, around: list[str]) -> list[Span]:
    """The assistant's words in `text`, or its first calls' names, given what stands around them.

    Raises:
        UnclearAnswerError: something else stands there.
    """
    spoken = [
        turn.tool_calls[0].name if turn.tool_calls else turn.content
        for turn in messages
        if turn.role == "assistant"
    ]
    spans, at = [], 0
    for words, (before, after) in zip(spoken, pairwise(around), strict=True):
        at += len(before)
        # As written first: white space that a template keeps is part of what is trained.
        forms = (words, words.rstrip(), words.lstrip(), words.strip())
        shown = next((form for form in forms if text.startswith(form + after, at)), None)
        if shown is None:
            raise UnclearAnswerError(
                "the template changes the assistant's words, or what stands around them "
                "depends on them",
                rendered=text,
            )
        spans.append(Span(start=at, end=at + len(shown)))
        at += len(shown)
    if not text.startswith(around[0]) or at + len(around[-1]) != len(text):
        raise UnclearAnswerError(
            "the template adds text that depends on the answers", rendered=text
        )
    return spans


def _without_words(turn: Message) -> Message:
    """A turn of the same shape that says something else."""
    return Message(
        role=turn.role,
        content=turn.content and _OTHER,
        tool_calls=tuple(
            ToolCall(_OTHER, {_OTHER: _OTHER}, id=call.id and _OTHER) for call in turn.tool_calls
        ),
        tool_call_id=turn.tool_call_id and _OTHER,
        name=turn.name and _OTHER,
        thinking=turn.thinking and _OTHER,
    )


def _start_of_speech(text: str, prompt: str, *, words: Span, turn: Message) -> int:
    """Where the model takes over: white space that the prompt leaves out is spoken by the model.

    So is what the model thinks before it answers.

    Raises:
        UnclearAnswerError: the row is thought out, and nothing tells where thinking begins.
    """
    gap = text[len(prompt) : words.start]
    is_prefix = len(prompt) <= words.start and text.startswith(prompt)
    if turn.thinking and turn.trained:
        if not prompt or not is_prefix:
            raise UnclearAnswerError(
                "the template does not write the thinking of an answer behind its prompt",
                rendered=text,
            )
        return len(prompt)
    return len(prompt) if prompt and is_prefix and not gap.strip() else words.start
