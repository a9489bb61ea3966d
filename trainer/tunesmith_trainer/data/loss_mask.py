"""Rendered rows to tokens and their loss mask, with a proof for every row.

Follows `chat_template`, and is used by prepare's `tokenization`. A token is trained if it is part
of an answer or ends one. The proof decodes what is trained and compares it, character by character,
with the assistant's words. Text and prompt are tokenized together; where a token would reach across
the start of an answer, they are tokenized apart, which is what a server does too.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING
from unicodedata import normalize

from tunesmith_trainer.data.begin_token import begin_ids
from tunesmith_trainer.data.chat_template import Rendered, Span, UnclearAnswerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A row as token ids, and which of them are targets; both of the row's length."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]

    def __reduce__(self) -> tuple[Callable[..., "TokenRow"], tuple[bytes, bytes]]:
        return _unpacked, (array("i", self.ids).tobytes(), bytes(self.trained))

    @property
    def first_of_last_answer(self) -> int:
        """Position of the first token of the last run of targets."""
        start = len(self.ids) - self.trained[::-1].index(True)
        while self.trained[start - 1]:
            start -= 1
        return start


def _unpacked(ids: bytes, trained: bytes) -> TokenRow:
    return TokenRow(
        ids=tuple(memoryview(ids).cast("i")), trained=tuple(memoryview(trained).cast("?"))
    )


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids with the characters they stand for, as (start, end)."""

    ids: list[int]
    places: list[tuple[int, int]]


class LossMasker:
    """Makes token rows with one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._begin = begin_ids(tokenizer)
        # Any added token may end a turn: whether it is marked as special is up to the model's
        # author.
        self._added = frozenset(tokenizer.added_tokens_decoder)

    def tokens_of(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of many texts: in one call they take half as long as in one each."""
        if not texts:
            return []
        # NB: without special tokens. The template writes the begin-of-text token itself, and a
        # second one would be in front of every row.
        made = self._tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        return list(map(Tokens, made["input_ids"], made["offset_mapping"]))

    def mask_answers(self, rendered: Rendered, whole: Tokens | None = None) -> TokenRow:
        """The row of a conversation: its answers and the tokens that end them are trained.

        `whole` are the tokens of its text, where somebody has them.

        Raises:
            UnclearAnswerError: the proof fails: what would be trained is not what was said.
        """
        starts = [answer.start for answer in rendered.answers]
        # Together first, as the row would be read by anyone. Cut at the answers where a merge
        # reaches across a start: generation begins right there, with its prompt tokenized alone.
        for are_apart in (False, True):
            if are_apart:
                tokens = self._cut(rendered.text, at=starts)
            else:
                tokens = whole or self.tokens_of([rendered.text])[0]
            ranges = [self._range(tokens, rendered.text, span) for span in rendered.answers]
            if all(
                self._speaks(tokens, where, rendered.text, span)
                for where, span in zip(ranges, rendered.answers, strict=True)
            ):
                return _row(tokens.ids, ranges)
        raise UnclearAnswerError(
            "the tokenizer cannot tell the answer from its prompt, or does not give its words back",
            rendered=rendered.text,
        )

    def mask_text(self, text: str) -> TokenRow:
        """The row of plain text: all of it is trained, with the token that ends it.

        The first token is not, for nothing stands before it: the begin token, where the model has
        one.

        Raises:
            UnclearAnswerError: the text is one token, and nothing ends it.
        """
        ids = [*self._begin, *self._tokenizer(text, add_special_tokens=False)["input_ids"]]
        end = self._tokenizer.eos_token_id
        if end is not None:
            ids.append(end)
        if len(ids) < 2:  # noqa: PLR2004 - one to read, one to predict
            raise UnclearAnswerError("one token is nothing to learn from", rendered=text)
        return _row(ids, [range(1, len(ids))])

    def _cut(self, text: str, *, at: Sequence[int]) -> Tokens:
        bounds = list(pairwise([0, *at, len(text)]))
        pieces = self.tokens_of([text[start:end] for start, end in bounds])
        return Tokens(
            ids=[token for piece in pieces for token in piece.ids],
            places=[
                (start + left, start + right)
                for (start, _), piece in zip(bounds, pieces, strict=True)
                for left, right in piece.places
            ],
        )

    def _range(self, tokens: Tokens, text: str, span: Span) -> range:
        """The tokens of an answer, with the one that ends it.

        Raises:
            UnclearAnswerError: no token ends it.
        """
        # start < right: a token of no characters, just in front of the answer, is none of it.
        first = next(
            (at for at, (left, right) in enumerate(tokens.places) if left >= span.start < right),
            len(tokens.ids),
        )
        for at in range(first, len(tokens.ids)):
            left = tokens.places[at][0]
            if left >= span.end and tokens.ids[at] in self._added:
                # White space may stand between the words and the end token; words may not, or the
                # model would learn to say them.
                if text[span.end : left].strip():
                    break
                return range(first, at + 1)
        raise UnclearAnswerError(
            "no token of its own ends the answer, so that the model would never learn to stop",
            rendered=text,
        )

    def _speaks(self, tokens: Tokens, where: range, text: str, span: Span) -> bool:
        """The proof: what is trained says exactly the answer and its end."""
        said = text[span.start : tokens.places[where[-1]][1]]
        # One token before gives decoders that strip a leading space something to strip.
        before = self._decode(tokens.ids[where[0] - 1 : where[0]])
        together = self._decode(tokens.ids[where[0] - 1 : where[-1] + 1])
        heard = together[len(before) :]
        if where[0] == 0 or not together.startswith(before):
            return False
        # Some tokenizers compose characters before anything else: é in two comes back as one.
        return heard == said or normalize("NFC", heard) == normalize("NFC", said)

    def _decode(self, ids: Sequence[int]) -> str:
        # NB: clean_up_tokenization_spaces is on in many tokenizers' settings, and takes the space
        # before punctuation away: the proof would compare something else than what is trained.
        return self._tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


def _row(ids: Sequence[int], ranges: Sequence[range]) -> TokenRow:
    trained = [False] * len(ids)
    for where in ranges:
        trained[where.start : where.stop] = [True] * len(where)
    return TokenRow(ids=tuple(ids), trained=tuple(trained))
