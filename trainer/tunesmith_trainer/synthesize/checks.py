"""Why a question or an answer that a model wrote is thrown away, each reason a word of the card.

What is noise in the rows that people give is noise here, whatever `dataset.cleaning.noise` lets
pass; a generator also refuses, goes round in circles, and repeats or gives instructions.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from tunesmith_trainer.data.cleaning.languages import language_of
from tunesmith_trainer.data.cleaning.noise import NOISE_RULES, is_binary, is_refusal
from tunesmith_trainer.data.cleaning.row_keys import squeezed
from tunesmith_trainer.data.cleaning.variety import is_varied
from tunesmith_trainer.data.rows import Message, Row
from tunesmith_trainer.synthesize.instructions import Example, holds_marks

# Orders to a model, which rows would teach it to write or to follow, and words of our own orders.
_INSTRUCTIONS: Final = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,30}\b(?:previous|prior|above|earlier|preceding"
    r"|your|all)\b.{0,20}\b(?:instruction|prompt|message|rule|guideline)s?\b"
    r"|\b(?:system|hidden|initial) prompt\b|\bnew instructions?:|\bjailbreak\b"
    r"|\blanguage and manner\b"
    r"|\b(?:rewritten|given|original) (?:prompt|message)\b|\bmessages? (?:above|below)\b"
    r"|<\|[^|<>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>",
    re.IGNORECASE | re.DOTALL,
)
# Characters of a question, for each one of the longest that was shown; and however short those are.
_MOST_GROWTH: Final = 4
_ALWAYS_SHORT: Final = 240
# Of the rows whose language is known: what fewer have is no language of theirs.
_LEAST_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Checks:
    """What is known of the job: its languages, and the special tokens of its model."""

    languages: frozenset[str]
    special_tokens: tuple[str, ...]

    @classmethod
    def of(cls, examples: Sequence[Example], special_tokens: Collection[str]) -> "Checks":
        """Learn from the rows."""
        told = Counter(
            language
            for example in examples
            if (language := language_of(f"{example.question}\n{example.answer}")) is not None
        )
        least = _LEAST_SHARE * told.total()
        languages = frozenset(language for language, number in told.items() if number >= least)
        return cls(languages, tuple(special_tokens))

    def question(self, text: str, examples: Sequence[Example]) -> str | None:
        """Why the question is thrown away; None where it stays."""
        longest = max(len(example.question) for example in examples)
        if not text:
            return "empty"
        if len(text) > max(_MOST_GROWTH * longest, _ALWAYS_SHORT):
            return "overlong"
        # A generator that declines to write does so in place of the question.
        if is_refusal(_row("", text)):
            return "refusals"
        return self._text(text)

    def answer(self, row: Row, *, is_cut: bool) -> str | None:
        """Why the answer of a row is thrown away; None where it stays."""
        answer = row.messages[-1].content
        if not answer:
            return "empty"
        if is_cut:
            return "truncatedAnswers"
        # The rule of given rows lets greetings pass.
        if squeezed(answer).casefold() == squeezed(row.messages[-2].content).casefold():
            return "echoAnswers"
        broken = next((name for name, breaks in NOISE_RULES.items() if breaks(row)), None)
        return broken or self._text(answer)

    def _text(self, text: str) -> str | None:
        language = language_of(text)
        tests = {
            "binaryText": is_binary(_row("", text)),
            "circles": len(text.split()) > 1 and not is_varied(text.split()),
            "marks": holds_marks(text) or any(token in text for token in self.special_tokens),
            "instructions": bool(_INSTRUCTIONS.search(text)),
            "otherLanguages": bool(self.languages) and language not in {None, *self.languages},
        }
        return next((reason for reason, is_so in tests.items() if is_so), None)


def _row(question: str, answer: str) -> Row:
    return Row(source="", messages=(Message("user", question), Message("assistant", answer)))
