"""Terms that name groups of people: found in texts, and swapped for those of another group.

The measures of `held_out_rows.py` and the counterfactual children of training rows go through here.
Without groups of the job's own there is a table of English words for women and men, with the
pronouns that need care: "her" is "his" before what is owned, and "him" elsewhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from tunesmith_api.finetunejob.fairness import TermGroup
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.augment.meaning import kept_parts
from tunesmith_trainer.data.rows import Message, Row

# Rows with a term, of all rows; and rows from which on that is told.
_NEARLY_ALL: Final = 0.95
_ENOUGH_ROWS: Final = 20
# One line for each pair of words, women's first; all of them are swapped in both directions.
_ENGLISH: Final = (
    "she he|herself himself|woman man|women men|girl boy|girls boys|mother father|mothers fathers|"
    "mom dad|mum dad|daughter son|daughters sons|sister brother|sisters brothers|wife husband|"
    "wives husbands|aunt uncle|aunts uncles|niece nephew|nieces nephews|grandmother grandfather|"
    "grandma grandpa|granddaughter grandson|girlfriend boyfriend|bride groom|lady gentleman|"
    "ladies gentlemen|female male|females males|queen king|princess prince|waitress waiter|"
    "actress actor|businesswoman businessman|businesswomen businessmen|policewoman policeman|"
    "saleswoman salesman|chairwoman chairman|mrs mr|ms mr|madam sir|ma'am sir|her his|hers his|"
    "her him"
)
_POSSESSIVE, _STANDALONE, _OBJECT = "her his", "hers his", "her him"
# Words that do not begin what somebody owns: before them "her" is "him", and "his" is "hers".
_NO_NOUN: Final = frozenset(
    (  # noqa: SIM905 - a list would be 70 lines
        "a about after again alone and any anything are as at away back be because before but "
        "by can could did do does down either every everything first for from had has have he here "
        "how i if in instead into is it later more not nothing now of off on or our out over she "
        "should so some something soon than that the their them then there these they this those "
        "through to today together tomorrow tonight too under until up was we were what when where "
        "which while who why will with without would yesterday yet you your"
    ).split()
)
_NEXT_WORD: Final = re.compile(r"[ \t]+([^\W\d_][\w'’-]*)")
# Scripts without spaces between words, where a term has no edge to look for.
_SPACELESS: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A term of a group in a text, and which of the group's it is."""

    start: int
    end: int
    group: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class Terms:
    """The terms of two groups or more; those at one place correspond."""

    names: tuple[str, ...]
    terms: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, groups: Sequence[TermGroup]) -> "Terms":
        """Of the job's groups; without any, of women and men in English."""
        if groups:
            return cls(
                names=tuple(group.name for group in groups),
                terms=tuple(tuple(group.terms) for group in groups),
            )
        pairs = [pair.split(" ") for pair in _ENGLISH.split("|")]
        return cls(names=("women", "men"), terms=tuple(zip(*pairs, strict=True)))

    def found(self, text: str) -> list[Found]:
        """The terms in a text from left to right, none within code, mark-up or addresses."""
        code = [(part.start, part.end) for part in kept_parts(text) if part.kind == "code"]
        return [
            Found(match.start(), match.end(), group, places)
            for match in self._pattern.finditer(text)
            if not any(start <= match.start() < end for start, end in code)
            for group, places in [self._known[match[0].casefold()]]
        ]

    def group_of(self, texts: Sequence[str]) -> int | None:
        """The one group that texts name; None where they name none, or several."""
        named = {found.group for text in texts for found in self.found(text)}
        return named.pop() if len(named) == 1 else None

    def swapped(self, text: str, *, source: int, target: int) -> str:
        """The text with the terms of one group in place of the other's."""
        parts, end = [], 0
        for found in self.found(text):
            if found.group != source:
                continue
            wanted = self._place(found, text)
            said = text[found.start : found.end]
            parts += [text[end : found.start], _cased(self.terms[target][wanted], like=said)]
            end = found.end
        return "".join([*parts, text[end:]])

    def without(self, text: str, *, blank: str) -> str:
        """The text with `blank` in place of every group's terms: what is left is of no group."""
        parts, end = [], 0
        for found in self.found(text):
            parts += [text[end : found.start], blank]
            end = found.end
        return "".join([*parts, text[end:]])

    def _place(self, found: Found, text: str) -> int:
        if len(found.places) == 1:
            return found.places[0]
        by_words = {
            " ".join(group[place] for group in self.terms[:2]): place for place in found.places
        }
        word = _NEXT_WORD.match(text, found.end)
        owns = word is not None and word[1].casefold() not in _NO_NOUN
        wanted = _POSSESSIVE if owns else (_OBJECT if found.group == 0 else _STANDALONE)
        return by_words.get(wanted, found.places[0])

    @cached_property
    def _known(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        known: dict[str, tuple[int, tuple[int, ...]]] = {}
        for group, terms in enumerate(self.terms):
            for place, term in enumerate(terms):
                _, places = known.get(term.casefold(), (group, ()))
                known[term.casefold()] = (group, (*places, place))
        return known

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # The longest first: "grandmother" holds "mother", and "black woman" holds "woman".
        ordered = sorted(self._known, key=len, reverse=True)
        return re.compile("|".join(map(_edged, ordered)), re.IGNORECASE)


def swap_row(row: Row, terms: Terms, *, source: int, target: int) -> Row:
    """The row with one group's terms in place of the other's, answers included."""

    def swap(turn: Message) -> Message:
        return turn.with_content(terms.swapped(turn.content, source=source, target=target))

    return replace(
        row,
        messages=tuple(map(swap, row.messages)),
        rejected=tuple(map(swap, row.rejected)),
        rationale=terms.swapped(row.rationale, source=source, target=target),
        highlights=tuple(
            replace(one, text=terms.swapped(one.text, source=source, target=target))
            for one in row.highlights
        ),
        text=None if row.text is None else terms.swapped(row.text, source=source, target=target),
    )


def texts_of_row(row: Row) -> list[str]:
    """What a row says, turn by turn."""
    return [row.text] if row.text is not None else [turn.content for turn in row.messages]


def refuse_shared_terms(groups: Sequence[TermGroup], *, field: str) -> None:
    """Return if every term is one group's; `field` is the path of `groups` below `spec`.

    Raises:
        BadInputError: a term stands twice, in one group or in two.
    """
    seen: set[str] = set()
    for term in (term for group in groups for term in group.terms):
        if term.casefold() in seen:
            raise BadInputError(
                Reason.INVALID_SPEC,
                f"spec.{field}: the term '{term}' stands there twice; a term names one group, "
                "and has one counterpart in each other; take one of the two out",
            )
        seen.add(term.casefold())


def is_nearly_everywhere(number: int, *, of: int) -> bool:
    """Whether a term of a group stands in so many rows that it may be no term of one."""
    return of >= _ENOUGH_ROWS and number > _NEARLY_ALL * of


def _edged(term: str) -> str:
    if _SPACELESS.search(term):
        return re.escape(term)
    return rf"(?<!\w){re.escape(term)}(?!\w)"


def _cased(term: str, *, like: str) -> str:
    if like.isupper() and len(like) > 1:
        return term.upper()
    if like[:1].isupper():
        return term[:1].upper() + term[1:]
    # A term that the job writes with a capital letter is a name: "Muslim".
    return term
