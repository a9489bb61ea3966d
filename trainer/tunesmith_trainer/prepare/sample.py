"""One row as the model sees it, with the part that is trained marked: for people to check."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import JsonValue

from tunesmith_trainer.data.loss_mask import TokenRow
from tunesmith_trainer.data.token_rows import TokenRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST: Final = 4000
OPEN: Final = "⟦"
CLOSE: Final = "⟧"


@dataclass(frozen=True, slots=True)
class Sample:
    """A decoded row; `trained` are spans of characters, start and end, in ascending order."""

    text: str
    trained: tuple[tuple[int, int], ...]

    def as_json(self) -> dict[str, JsonValue]:
        """The sample as it stands in the stage's facts."""
        return {"text": self.text, "trained": [[start, end] for start, end in self.trained]}

    def marked(self) -> str:
        """The text with the trained parts in brackets."""
        pieces, at = [], 0
        for start, end in self.trained:
            pieces += [self.text[at:start], OPEN, self.text[start:end], CLOSE]
            at = end
        return "".join([*pieces, self.text[at:]])


def sample_of(tokens: TokenRow, tokenizer: "PreTrainedTokenizerBase") -> Sample:
    """Decode a row; of a long one, the first characters."""
    places, at = [], 0
    for trained, run in groupby(tokens.trained):
        end = at + len(list(run))
        if trained:
            places.append((_length(tokens, at, tokenizer), _length(tokens, end, tokenizer)))
        at = end
    text = tokenizer.decode(list(tokens.ids), clean_up_tokenization_spaces=False)[:LONGEST]
    shown = [(start, min(end, len(text))) for start, end in places if start < len(text)]
    return Sample(text=text, trained=tuple(shown))


def markers_in(rows: Iterable[TokenRows], tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The special tokens that the rows hold, such as the marks around turns."""
    used = {int(each) for side in rows for each in np.unique(side.input_ids)}
    added = tokenizer.added_tokens_decoder.items()
    return sorted(token.content for number, token in added if token.special and number in used)


def _length(tokens: TokenRow, end: int, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Characters of the first `end` tokens."""
    return len(tokenizer.decode(list(tokens.ids[:end]), clean_up_tokenization_spaces=False))
