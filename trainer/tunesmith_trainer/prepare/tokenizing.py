"""Clean rows to tokens with a proven loss mask, at most as long as the job allows.

Raises where the template or the tokenizer would let something else be trained than the answers.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import Reporter
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.fitting import cut_prompt
from tunesmith_trainer.data.formats import Row
from tunesmith_trainer.data.masking import Masker, TokenRow
from tunesmith_trainer.data.problems import Problems
from tunesmith_trainer.data.records import RowRecord
from tunesmith_trainer.data.rendering import (
    RefusedConversationError,
    Renderer,
    UnclearAnswerError,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A row with its tokens, and as later stages read it."""

    row: Row
    tokens: TokenRow
    record: RowRecord


class RowTokenizer:
    """Tokenizes the rows of a job, and keeps count of what it finds."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        longest: int,
        overlong: Literal["drop", "fail", "truncatePrompt"],
    ) -> None:
        self._tokenizer = tokenizer
        self._longest = longest
        self._overlong = overlong
        self._renderer = Renderer(tokenizer)
        self._masker = Masker(tokenizer)
        self._added = frozenset(tokenizer.added_tokens_decoder)
        self._special = tuple(tokenizer.all_special_tokens)
        self._problems = Problems()
        self._unclear = Problems()

    def tokenize(self, rows: Sequence[Row], *, reporter: Reporter) -> list[Tokenized]:
        """The rows that fit, in order.

        Raises:
            BadInputError: the model has no template for conversations, or the rows, the template
                or the loss mask break a rule; the log holds the first row with an unclear answer.
        """
        if any(row.text is None for row in rows) and not self._tokenizer.chat_template:
            raise BadInputError(
                Reason.CHAT_TEMPLATE_MISSING,
                "the rows are conversations, and the model has no chat template; set "
                "spec.model.chatTemplate, or take an instruct model",
            )
        tokenized = []
        for number, row in enumerate(rows, start=1):
            found = self._tokenize(row)
            if found is not None:
                tokenized.append(found)
            reporter.progress("tokenizing the rows", step=number, total_steps=len(rows))
        self._problems.refuse()
        self._unclear.refuse(Reason.LOSS_MASK_INVALID)
        return tokenized

    def _tokenize(self, row: Row) -> Tokenized | None:
        try:
            whole = self._of_text(row, row.text) if row.text is not None else self._of_turns(row)
        except RefusedConversationError as refused:
            turns = ", ".join(message.role for message in row.messages)
            self._problems.add(
                row.source,
                given=f"turns of {turns}",
                rule=f"the model's chat template refuses them: {refused}",
                remedy="change the turns, or set spec.model.chatTemplate",
            )
            return None
        except UnclearAnswerError as unclear:
            self._add_unclear(row, unclear)
            return None
        return whole and self._fitted(whole)

    def _of_text(self, row: Row, text: str) -> Tokenized:
        record = RowRecord(source=row.source, messages=None, text=text, prompt=None, reference=None)
        return Tokenized(row=row, tokens=self._masker.mask_text(text), record=record)

    def _of_turns(self, row: Row) -> Tokenized | None:
        if self._breaks_turns(row):
            return None
        rendered = self._renderer.render(row.messages)
        record = RowRecord(
            source=row.source,
            messages=list(row.messages),
            text=None,
            prompt=rendered.prompt or None,
            reference=row.messages[-1].content,
        )
        return Tokenized(row=row, tokens=self._masker.mask_answers(rendered), record=record)

    def _breaks_turns(self, row: Row) -> bool:
        """Whether an answer holds the text of a special token, which would end or open a turn."""
        for message in row.messages:
            special = [each for each in self._special if each in message.content]
            if message.role == "assistant" and special:
                self._problems.add(
                    row.source,
                    given=f"{special[0]} inside an answer",
                    rule="this text is a special token of the model, and would break the turn",
                    remedy="take it out of the answer",
                )
                return True
        return False

    def _add_unclear(self, row: Row, unclear: UnclearAnswerError) -> None:
        if not self._unclear.count:
            _log.error("%s is rendered as:\n%s", row.source, unclear.rendered)
        self._unclear.add(
            row.source,
            given="a row whose rendering is in the log",
            rule=str(unclear),
            remedy="set spec.model.chatTemplate to a template that shows turns as they are",
        )

    def _fitted(self, whole: Tokenized) -> Tokenized | None:
        length = len(whole.tokens.ids)
        if length <= self._longest:
            return whole
        if self._overlong == "fail":
            self._problems.add(
                whole.row.source,
                given=f"a row of {length} tokens",
                rule=f"rows have at most {self._longest} tokens and dataset.overlong is fail",
                remedy="shorten it, raise training.sequenceLength, or set overlong: drop",
            )
        cut = None
        if self._overlong == "truncatePrompt" and whole.row.text is None:
            cut = cut_prompt(whole.tokens, longest=self._longest, special=self._added)
        if cut is None:
            return None
        return Tokenized(row=whole.row, tokens=cut, record=self._shortened(whole, cut))

    def _shortened(self, whole: Tokenized, cut: TokenRow) -> RowRecord:
        """The record with the prompt as it was cut, so that generation reads no more than that."""
        record = whole.record
        start = len(cut.ids) - cut.trained[::-1].index(True)
        while cut.trained[start - 1]:
            start -= 1
        prompt = self._tokenizer.decode(cut.ids[:start], clean_up_tokenization_spaces=False)
        return RowRecord(
            source=record.source,
            messages=record.messages,
            text=None,
            prompt=prompt,
            reference=record.reference,
        )
