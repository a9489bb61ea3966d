"""Clean rows to tokens with a proven loss mask, at most as long as the job allows.

`stage` calls it between `loading` and `splits`. It raises where the chat template or the tokenizer
would let something else be trained than the answers.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import Reporter
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.chat_template import (
    ChatTemplate,
    HiddenToolsError,
    RefusedConversationError,
    Rendered,
    UnclearAnswerError,
)
from tunesmith_trainer.data.loss_mask import LossMasker, TokenRow, Tokens
from tunesmith_trainer.data.prepared import RowRecord, Split
from tunesmith_trainer.data.rows import Message, Problems, Row
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.data.tool_turns import THINKING
from tunesmith_trainer.prepare.row_processes import RowProcesses, processes_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_log = logging.getLogger(__name__)

Overlong = Literal["drop", "fail", "truncatePrompt"]
# What the tokenizer is given at once: enough for its tables to stay in the processor's cache, and
# so little that the tokens of long rows take no memory.
_BATCH_ROWS: Final = 64
_BATCH_CHARACTERS: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """A row with its tokens, and as later stages read it; `rejected` only of a preference."""

    row: Row
    tokens: TokenRow
    record: RowRecord
    rejected: TokenRow | None = None

    def __reduce__(self) -> tuple[type["TokenizedRow"], tuple[Any, ...]]:
        return TokenizedRow, (self.row, self.tokens, self.record, self.rejected)

    @property
    def length(self) -> int:
        """Tokens of the row, or of the longer side of a preference."""
        return max(len(side.ids) for side in (self.tokens, self.rejected) if side)


@dataclass(frozen=True, slots=True)
class _Written:
    """A row, and what the template makes of it: one conversation, or both sides of a preference.

    Nothing where the row is a text, an answer holds the text of a `special` token, or the template
    does not fit the row, by `error`: that is told in the row's turn, behind what is wrong with
    earlier ones.
    """

    row: Row
    sides: tuple[Rendered, ...] = ()
    special: str | None = None
    error: Exception | None = None

    @property
    def num_characters(self) -> int:
        return sum(len(side.text) for side in self.sides)


class RowTokenizer:
    """Tokenizes the rows of a job, and keeps count of what breaks a rule."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        longest: int,
        overlong: Overlong,
        problems: Problems,
    ) -> None:
        self._tokenizer = tokenizer
        self._longest = longest
        self._overlong = overlong
        self._template = ChatTemplate(tokenizer)
        self._masker = LossMasker(tokenizer)
        self._added = frozenset(tokenizer.added_tokens_decoder)
        self._special = tuple(tokenizer.all_special_tokens)
        self.problems = problems
        # Apart from the others: they are refused with a reason of their own, and not skipped, for
        # what the template does to one row it does to others.
        self._unclear = Problems()
        # The first row with an unclear answer, and how it is rendered.
        self._rendering: tuple[str, str] | None = None

    def tokenize(self, rows: StoredRows[Row], *, reporter: Reporter) -> StoredRows[TokenizedRow]:
        """The rows that fit, in order.

        Raises:
            BadInputError: the model has no template for conversations, or the rows, the template
                or the loss mask break a rule; the log holds the first row with an unclear answer.
        """
        # All rows are of one format.
        if any(row.text is None for row in rows[:1]) and not self._tokenizer.chat_template:
            raise BadInputError(
                Reason.CHAT_TEMPLATE_MISSING,
                "the rows are conversations, and the model has no chat template; set "
                "spec.model.chatTemplate, or take an instruct model",
            )
        tokenized = StoredRows.of(self._tokenized(rows, reporter))
        self.problems.refuse()
        if self._rendering is not None:
            # One rendering is enough to see what a template does, and may be long.
            _log.error("%s is rendered as:\n%s", *self._rendering)
        self._unclear.refuse(Reason.LOSS_MASK_INVALID)
        return tokenized

    def _tokenized(self, rows: StoredRows[Row], reporter: Reporter) -> Iterator[TokenizedRow]:
        number = processes_for(len(rows))
        done = 0
        for block in self._in_processes(rows, number) if number else self._alone(rows):
            yield from block.rows
            done += block.num_read
            reporter.progress("tokenizing the rows", step=done, total_steps=len(rows))

    def _alone(self, rows: StoredRows[Row]) -> Iterator["_Block"]:
        for batch in self._batches(rows):
            yield _Block(self._of_batch(batch), num_read=len(batch))

    def _in_processes(self, rows: StoredRows[Row], number: int) -> Iterator["_Block"]:
        """The same in the same order, and the same problems."""
        # The first one here: what is wrong with the template itself is raised, and in words.
        yield from self._alone(rows[:1])
        build = partial(_BlockTokenizer, self._tokenizer, self._longest, self._overlong)
        for block in RowProcesses[Row, _Block](number, build).results(rows[1:]):
            self.problems.take(block.problems)
            self._unclear.take(block.unclear)
            self._rendering = self._rendering or block.rendering
            yield block

    def block(self, rows: Sequence[Row]) -> "_Block":
        """Some rows, with all that is wrong with them."""
        tokenized = [fitted for batch in self._batches(rows) for fitted in self._of_batch(batch)]
        return _Block(tokenized, len(rows), self.problems, self._unclear, self._rendering)

    def fitting(self, row: Row) -> TokenizedRow | None:
        """One row that nobody has to mend; None where it is too long, or breaks a rule."""
        written = self._written(row)
        try:
            whole = self._masked(written, self._tokens_of([written]))
        except (RefusedConversationError, HiddenToolsError, UnclearAnswerError):
            return None
        return whole and self._fitted(whole)

    def _batches(self, rows: Iterable[Row]) -> Iterator[list[_Written]]:
        batch: list[_Written] = []
        length = 0
        for written in map(self._written, rows):
            batch.append(written)
            length += written.num_characters
            if len(batch) == _BATCH_ROWS or length >= _BATCH_CHARACTERS:
                yield batch
                batch, length = [], 0
        if batch:
            yield batch

    def _of_batch(self, batch: Sequence[_Written]) -> list[TokenizedRow]:
        tokens = self._tokens_of(batch)
        return [fitted for written in batch if (fitted := self._tokenize(written, tokens))]

    def _tokens_of(self, batch: Sequence[_Written]) -> Iterator[Tokens]:
        """The tokens of every side, one after another."""
        texts = [side.text for written in batch for side in written.sides]
        return iter(self._masker.tokens_of(texts))

    def _written(self, row: Row) -> _Written:
        if row.text is not None:
            return _Written(row)
        special = self._special_in_answers(row)
        if special is not None:
            return _Written(row, special=special)
        conversations = [row.messages, row.rejected] if row.rejected else [row.messages]
        try:
            render = partial(self._template.render, tools=row.tools)
            return _Written(row, sides=tuple(map(render, conversations)))
        # NB: not BadInputError. A template that is wrong itself, or never ends, ends the stage at
        # its first row: the whole batch would take its time limit, row by row.
        except (RefusedConversationError, HiddenToolsError, UnclearAnswerError) as error:
            return _Written(row, error=error)

    def _tokenize(self, written: _Written, tokens: Iterator[Tokens]) -> TokenizedRow | None:
        row = written.row
        try:
            whole = self._masked(written, tokens)
        except RefusedConversationError as refused:
            turns = ", ".join(message.role for message in row.messages)
            self.problems.add(
                row.source,
                given=f"turns of {turns}",
                rule=f"the model's chat template refuses them: {refused}",
                remedy="change the turns, or set spec.model.chatTemplate",
            )
            return None
        except HiddenToolsError as hidden:
            self._note_rendering(row, hidden.rendered)
            self._unclear.add(
                row.source,
                given=str(hidden),
                rule="the model's chat template leaves this out of what the model reads",
                remedy="set spec.model.chatTemplate to a template that shows it, or take a model "
                "that was made for it"
                + (
                    "; templates leave thinking out of all answers but the last: set train: false "
                    "in earlier ones"
                    if THINKING in hidden.fields
                    else ""
                ),
                is_bad_row=False,
            )
            return None
        except UnclearAnswerError as unclear:
            self._note_rendering(row, unclear.rendered)
            self._unclear.add(
                row.source,
                given="a row whose rendering is in the log",
                rule=str(unclear),
                remedy="set spec.model.chatTemplate to a template that shows turns as they are",
                is_bad_row=False,
            )
            return None
        return whole and self._fitted(whole)

    def _note_rendering(self, row: Row, rendered: str) -> None:
        self._rendering = self._rendering or (row.source, rendered)

    def _masked(self, written: _Written, tokens: Iterator[Tokens]) -> TokenizedRow | None:
        row = written.row
        if row.text is not None:
            record = RowRecord(
                source=row.source,
                messages=None,
                text=row.text,
                prompt=None,
                reference=None,
                origin=row.origin,
            )
            return TokenizedRow(row=row, tokens=self._masker.mask_text(row.text), record=record)
        if written.special is not None:
            self._add_special(row, written.special)
            return None
        if written.error is not None:
            raise written.error
        rendered, *others = written.sides
        other = others[0] if others else None
        # NB: of both sides before anything is raised, or the next row would be given the second's.
        whole = [next(tokens) for _ in written.sides]
        record = RowRecord(
            source=row.source,
            messages=list(row.messages),
            text=None,
            prompt=rendered.prompt or None,
            reference=_words_of(row.messages[-1], rendered),
            rejected=_words_of(row.rejected[-1], other) if other else None,
            tools=row.tools,
            origin=row.origin,
            rationale=row.rationale or None,
            highlights=row.highlights,
        )
        return TokenizedRow(
            row=row,
            tokens=self._mask(row.messages, rendered, whole[0], num_prompt=row.num_prompt),
            record=record,
            rejected=self._mask(row.rejected, other, whole[1], num_prompt=row.num_prompt)
            if other
            else None,
        )

    def _mask(
        self,
        messages: Sequence[Message],
        rendered: Rendered,
        whole: Tokens,
        *,
        num_prompt: int,
    ) -> TokenRow:
        """The row of one side: what the assistant said in the prompt of a preference is given."""
        answers = [at for at, turn in enumerate(messages) if turn.role == "assistant"]
        trained = tuple(
            span
            for at, span in zip(answers, rendered.answers, strict=True)
            if at >= num_prompt and messages[at].is_trained
        )
        return self._masker.mask_answers(replace(rendered, answers=trained), whole)

    def _special_in_answers(self, row: Row) -> str | None:
        """A special token whose text an answer holds, which would end or open a turn.

        Tokenizers read special tokens anywhere in a text, so the model would be taught to stop
        there, or to speak for the user. Only answers are looked at: nothing else is trained.
        """
        for message in (*row.messages, *row.rejected):
            if message.role == "assistant":
                said = message.said
                for token in self._special:
                    if token in said:
                        return token
        return None

    def _add_special(self, row: Row, special: str) -> None:
        self.problems.add(
            row.source,
            given=f"{special} inside an answer",
            rule="this text is a special token of the model, and would break the turn",
            remedy="take it out of the answer",
        )

    def _fitted(self, whole: TokenizedRow) -> TokenizedRow | None:
        length = whole.length
        if length <= self._longest:
            return whole
        if self._overlong == "fail":
            self.problems.add(
                whole.row.source,
                given=f"a row of {length} tokens",
                rule=f"rows have at most {self._longest} tokens and dataset.overlong is fail",
                remedy="shorten it, raise training.sequenceLength, or set overlong: drop",
                is_bad_row=False,
            )
        if self._overlong != "truncatePrompt" or whole.row.text is not None:
            return None
        # As many tokens from both sides of a preference, so that they keep one prompt.
        excess = length - self._longest
        cut, rejected = (
            side and truncate_prompt(side, longest=len(side.ids) - excess, special=self._added)
            for side in (whole.tokens, whole.rejected)
        )
        if cut is None or (rejected is None and whole.rejected is not None):
            return None
        # The prompt as it was cut, so that generation reads no more than training did.
        prompt = self._tokenizer.decode(
            cut.ids[: cut.first_of_last_answer], clean_up_tokenization_spaces=False
        )
        record = replace(whole.record, prompt=prompt)
        return TokenizedRow(row=whole.row, tokens=cut, record=record, rejected=rejected)


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows that fit, of `num_read` rows, and what is wrong with the others."""

    rows: list[TokenizedRow]
    num_read: int
    problems: Problems = field(default_factory=Problems)
    unclear: Problems = field(default_factory=Problems)
    rendering: tuple[str, str] | None = None


class _BlockTokenizer:
    """What a process does: blocks of rows, each with problems of its own."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", longest: int, overlong: Overlong
    ) -> None:
        self._make = partial(RowTokenizer, tokenizer, longest=longest, overlong=overlong)

    def __call__(self, rows: list[Row]) -> _Block:
        return self._make(problems=Problems(max_bad_rows=len(rows))).block(rows)


def _words_of(answer: Message, rendered: Rendered) -> str:
    """What the model is to say: calls of tools as the template writes them."""
    return rendered.last_words if answer.tool_calls else answer.content


def truncate_prompt(row: TokenRow, *, longest: int, special: Collection[int]) -> TokenRow | None:
    """The row without its oldest tokens, at most `longest` tokens; None if that is impossible.

    Only what stands before the first answer is ever cut; the last special token before that answer,
    which opens its turn, stays with what follows. `special` are the ids of the tokens that
    templates build turns of.
    """
    excess = len(row.ids) - longest
    if excess <= 0:
        return row
    answer = row.trained.index(True)
    # A special token at the very start begins the text, not a turn.
    openings = [at for at in range(1, answer) if row.ids[at] in special]
    # Without turns, one token stays: the first target is predicted from it.
    kept_from = openings[-1] if openings else max(0, answer - 1)
    if excess > kept_from:
        return None
    return TokenRow(ids=row.ids[excess:], trained=row.trained[excess:])


def stored_tokens(rows: Iterable[TokenizedRow]) -> TokenRows:
    """The tokens of rows, as they are stored."""
    return TokenRows.of((row.tokens.ids, row.tokens.trained) for row in rows)


def rejected_tokens(
    train: StoredRows[TokenizedRow], validation: StoredRows[TokenizedRow]
) -> dict[Split, TokenRows]:
    """The rejected answers of preferences; nothing of any other rows."""
    # All rows are preferences, or none is.
    if not any(row.rejected for row in train[:1]):
        return {}
    rows: dict[Split, StoredRows[TokenizedRow]] = {"train": train, "validation": validation}
    return {
        split: TokenRows.of(
            (row.rejected.ids, row.rejected.trained) for row in kept if row.rejected
        )
        for split, kept in rows.items()
    }
