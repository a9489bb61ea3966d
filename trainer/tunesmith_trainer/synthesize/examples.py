"""The training rows that a writer is shown, and which of them for the next new one.

Where `balance.method` is `synthesize`, all examples of a question are of one group, and groups take
turns by what each still lacks.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from pydantic import JsonValue

from tunesmith_trainer.data.lacking_groups import Group, LackingGroups
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.synthesize.instructions import Example

# Longer ones leave no room for an answer behind several of them.
LONGEST_EXAMPLE: Final = 4000


def examples_of(records: Sequence[RowRecord], lacking: LackingGroups | None) -> list[Example]:
    """The given rows that may be shown, each once; rows that a remedy wrote are not."""
    shown: dict[str, Example] = {}
    for place, record in enumerate(records):
        example = None if record.origin.generator != "none" else _example_of(record)
        if example is not None:
            group = None if lacking is None else lacking.of_rows[place]
            # A row that balance has repeated is shown as one.
            shown[record.source] = replace(example, group=group)
    return list(shown.values())


def _example_of(record: RowRecord) -> Example | None:
    """The row's first question and the answer to it, which make sense without the rest."""
    turns = record.messages or []
    system = turns[0].content if turns and turns[0].role == "system" else None
    said = turns if system is None else turns[1:]
    if [turn.role for turn in said[:2]] != ["user", "assistant"] or record.tools:
        return None
    question, answer = said[0].content, said[1].content
    if not (question.strip() and answer.strip()) or said[1].tool_calls:
        return None
    if len(question) + len(answer) > LONGEST_EXAMPLE:
        return None
    return Example(record.source, system, question, answer)


@dataclass(frozen=True, slots=True)
class Shortage:
    """What groups that have an example lack."""

    names: tuple[str, ...]
    before: Counter[Group]
    lacks: Counter[Group]

    @classmethod
    def of(cls, lacking: LackingGroups, examples: Iterable[Example]) -> "Shortage":
        """A group without a row that can be shown is left as it is."""
        able = {example.group for example in examples}
        lacks = {group: number for group, number in lacking.lacks.items() if group in able}
        return cls(lacking.names, Counter(lacking.of_rows), +Counter(lacks))

    def as_json(self, written: Counter[Group]) -> dict[str, JsonValue]:
        """For the card: each group with its rows before and those that were written."""
        groups: list[JsonValue] = [
            {
                "values": list[JsonValue](group),
                "before": self.before[group],
                "lacked": self.lacks[group],
                "written": written[group],
            }
            for group in sorted(self.before)
        ]
        return {"by": list[JsonValue](self.names), "groups": groups}


class ShownExamples:
    """Which examples stand in front of a new question."""

    def __init__(
        self, examples: Sequence[Example], *, size: int, shortage: Shortage | None
    ) -> None:
        self.examples = examples
        self._size = size
        self._shortage = shortage
        self._by_group = defaultdict[Group | None, list[Example]](list)
        for example in examples:
            self._by_group[example.group].append(example)
        self._group_of = {example.source: example.group for example in examples}
        self._written = Counter[Group]()

    def drawn(self, random: np.random.Generator) -> tuple[Example, ...]:
        """Some of all rows, or some of a group that lacks rows, the likelier the more it does."""
        pool = self._pool(random)
        places = random.choice(len(pool), size=min(self._size, len(pool)), replace=False)
        return tuple(pool[place] for place in places)

    def own(self, place: int) -> Example | None:
        """The training row at that place; None behind the last."""
        return self.examples[place] if place < len(self.examples) else None

    def wrote(self, row: Row) -> None:
        """Count a new row for the group of the examples that stood before it."""
        group = self._group_of[row.origin.examples[0]]
        if group is not None:
            self._written[group] += 1

    def as_json(self) -> dict[str, JsonValue]:
        """What the card says of groups; nothing where none are to be filled."""
        return {} if self._shortage is None else self._shortage.as_json(self._written)

    def _pool(self, random: np.random.Generator) -> Sequence[Example]:
        if self._shortage is None:
            return self.examples
        left = self._shortage.lacks - self._written
        shares = np.array(list(left.values()), dtype=float)
        place = random.choice(len(shares), p=shares / shares.sum())
        return self._by_group[list(left)[place]]
