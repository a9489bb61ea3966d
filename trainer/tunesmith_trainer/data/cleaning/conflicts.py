"""Rows that ask the same and are answered differently: one of the answers is wrong, or none tells.

Two rows ask the same if all that comes before the last answer is, in any case, spacing and
punctuation. Short prompts are left alone: there are many answers to a greeting.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tunesmith_trainer.data.cleaning.row_keys import digest_of
from tunesmith_trainer.data.rows import Message, Row

_WORD: Final = re.compile(r"[^\W_]+")
# What calculation and code differ by: more than words count in an answer.
_WORD_OR_SIGN: Final = re.compile(r"[^\W_]+|[^\w\s.,;!?\"'’]")
_LEAST_WORDS: Final = 3


def conflicting(rows: Iterable[Row]) -> dict[int, int]:
    """Places of rows whose answer is not the leading one, and the place of one that differs."""
    first: dict[bytes, int] = {}
    asked: dict[int, list[int]] = defaultdict(list)
    answers: dict[int, bytes] = {}
    for place, row in enumerate(rows):
        prompt = _prompt(row)
        if prompt is not None:
            answers[place] = digest_of(_words(row.messages[-1]))
            leader = first.setdefault(digest_of(prompt), place)
            if leader != place:
                asked[leader].append(place)
    found: dict[int, int] = {}
    for leader, others in asked.items():
        found |= _outvoted(answers, [leader, *others])
    return dict(sorted(found.items()))


def _outvoted(given: Mapping[int, bytes], places: Sequence[int]) -> dict[int, int]:
    answers = {place: given[place] for place in places}
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
