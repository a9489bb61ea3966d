"""Differences in form that mean nothing: who begins, and how a system prompt is written."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from tunesmith_trainer.data.rows import Row

_WORD: Final = re.compile(r"\w+")


def begins_oddly(row: Row) -> bool:
    """Whether somebody else than the user has the first word, behind one system prompt."""
    roles = [turn.role for turn in row.messages]
    behind = roles[1:] if roles[:1] == ["system"] else roles
    return bool(roles) and (behind[:1] != ["user"] or "system" in behind)


def usual_system_prompts(rows: Iterable[Row]) -> Mapping[str, str]:
    """For each system prompt that is a variant of a more frequent one, that one."""
    variants: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        prompt = _system_prompt(row)
        if prompt is not None:
            variants[tuple(_WORD.findall(prompt.casefold()))][prompt] += 1
    usual: dict[str, str] = {}
    for counts in variants.values():
        # Of two as frequent ones the first in order, whatever the order of the rows.
        best = min(counts, key=lambda prompt: (-counts[prompt], prompt))
        usual |= {prompt: best for prompt in counts if prompt != best}
    return usual


def with_usual_prompt(row: Row, usual: Mapping[str, str]) -> Row:
    """The row with the usual form of its system prompt."""
    prompt = _system_prompt(row)
    if prompt is None or prompt not in usual:
        return row
    said = row.messages[0].with_content(usual[prompt])
    rejected = (said, *row.rejected[1:]) if row.rejected else ()
    return replace(row, messages=(said, *row.messages[1:]), rejected=rejected)


def _system_prompt(row: Row) -> str | None:
    if row.messages and row.messages[0].role == "system":
        return row.messages[0].content
    return None
