"""Whether a text in other words still says what it said.

Two tests, cheap enough for every child: what no other words may stand for is there as often as
before, and both are alike in their characters. Nothing of this proves that a meaning was kept; it
throws out what has surely lost it.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sacrebleu.metrics.chrf import CHRF

# In this order, so that nothing within code is taken for a quote, and nothing there for a name.
_CODE: Final = (
    r"```.*?```|`[^`\n]+`"
    # Mark-up, marks of turns, places to fill in.
    r"|<\|?[^<>\s][^<>]*>|\{[^{}\n]*\}"
    # Addresses and paths.
    r"|\b\w+://[^\s)>\]]*[^\s)>\].,;:!?]|\b[\w.+-]+@[\w-]+\.[\w.-]*\w"
    r"|(?:(?<=\s)|\A)[~.]{0,2}/[\w./-]+|\b[A-Za-z]:\\\S+"
    # snake_case, calls, camelCase, names of files and hosts.
    r"|\b\w*_\w+(?:\(\))?|\b\w+\(\)|\b[a-z]+[A-Z]\w*|\b[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)+"
)
_QUOTE: Final = r'"[^"\n]+"|“[^”\n]+”|«[^»\n]+»|(?<!\w)\'[^\'\n]+\'(?!\w)'
_NUMBER: Final = r"[$€£]?\w*\d(?:[\w.,:%/-]*[\w%])?"
# English and Spanish. NB: of other languages nothing here knows how they deny.
_NEGATION: Final = (
    r"(?i:\b(?:not|no|never|none|nobody|nothing|nowhere|neither|nor|without|cannot"
    r"|nunca|jamás|nadie|nada|ningun[oa]?|ningún|tampoco|sin"
    r"|(?:do|does|did|is|are|was|were|has|have|had|ca|wo|could|should|would)nt)\b"
    r"|n[’']t\b)"
)
# A capital letter within a sentence; at its start every word has one.
_NAME: Final = r"(?<=[\w,;)’'-] )(?!I\b)[^\W\d_]*[A-Z][\w-]*"
_KEPT: Final = re.compile(
    f"(?P<code>{_CODE})|(?P<quote>{_QUOTE})|(?P<number>{_NUMBER})|(?P<negation>{_NEGATION})"
    f"|(?P<name>{_NAME})",
    re.DOTALL,
)
_CHRF: Final = CHRF()


@dataclass(frozen=True, slots=True)
class Kept:
    """A part of a text that stays as it is: of which kind, its words, and where they stand."""

    kind: str
    words: str
    start: int
    end: int


def kept_parts(text: str) -> Iterator[Kept]:
    """Code, quotes, numbers, negations and names, from left to right."""
    for match in _KEPT.finditer(text):
        yield Kept(str(match.lastgroup), match[0], match.start(), match.end())


def similarity(text: str, other: str) -> float:
    """The F-score of character n-grams (chrF), from 0 to 1; case counts."""
    return float(_CHRF.sentence_score(other, [text]).score) / 100


def says_the_same(text: str, other: str, *, min_similarity: float) -> bool:
    """Whether `other` may stand for `text`."""
    if _must_stay(text) != _must_stay(other):
        return False
    return min_similarity == 0 or similarity(text, other) >= min_similarity


def _must_stay(text: str) -> Counter[str]:
    # don't and do not deny alike.
    return Counter(
        part.kind if part.kind == "negation" else part.words for part in kept_parts(text)
    )
