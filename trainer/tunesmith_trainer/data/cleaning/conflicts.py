"""Rows that ask the same and are answered differently: one of the answers is wrong, or none tells.

Two rows ask the same if all that comes before the last answer is, in any case, spacing and
punctuation. Short prompts are left alone: there are many answers to a greeting.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from tunesmith_trainer.data.rows import Message, Row

_WORD: Final = re.compile(r"[^\W_]+")
# What calculation and code differ by: more than words count in an answer.
_WORD_OR_SIGN: Final = re.compile(r"[^\W_]+|[^\w\s.,;!?\"'’]")
_LEAST_WORDS: Final = 3


def conflicting(rows: Sequence[Row]) -> dict[int, int]:
    """Places of rows whose answer is not the leading one, and the place of one that differs."""
    asked: dict[object, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        prompt = _prompt(row)
        if prompt is not None:
            asked[prompt].append(place)
    found: dict[int, int] = {}
    for places in asked.values():
        if len(places) > 1:
            found |= _outvoted(rows, places)
    return dict(sorted(found.items()))


def _outvoted(rows: Sequence[Row], places: Sequence[int]) -> dict[int, int]:
    answers = {place: _words(rows[place].messages[-1]) for place in places}
    votes = Counter(answers.values()).most_common(2)
    if len(votes) == 1:
        return {}
    leading = votes[0][0] if votes[0][1] > votes[1][1] else None
    others = {
        answer: next(place for place in places if answers[place] != answer)
        for answer in set(answers.values())
    }
    return {place: others[said] for place, said in answers.items() if said != leading}


def _prompt(row: Row) -> object | None:
    """What comes before the last answer; None of a preference, a text and a short prompt."""
    if row.rejected or not row.messages:
        return None
    turns = [(turn.role, tuple(_WORD.findall(turn.said.casefold()))) for turn in row.messages[:-1]]
    num_words = sum(len(words) for role, words in turns if role != "system")
    if num_words < _LEAST_WORDS:
        return None
    return (*turns, json.dumps(row.tools, sort_keys=True, default=str))


def _words(answer: Message) -> tuple[str, ...]:
    return tuple(_WORD_OR_SIGN.findall(answer.said.casefold()))
