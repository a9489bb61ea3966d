"""What new rows must not repeat: training rows, held-out rows, and each other.

The measures and their thresholds are those of `dataset.cleaning`: near-duplicates by pairs of
words, contamination by n-grams. Here they always throw away, whatever their policy is there.
"""

from collections.abc import Sequence

from tunesmith_api.finetunejob.cleaning import Cleaning
from tunesmith_trainer.data.cleaning.contamination import contaminated
from tunesmith_trainer.data.cleaning.near_duplicates import (
    NearDuplicateIndex,
    near_duplicate_groups,
)
from tunesmith_trainer.data.cleaning.row_keys import squeezed
from tunesmith_trainer.data.cleaning.row_texts import compared_text
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Row


class KnownRows:
    """The questions that there are, those of new rows included."""

    def __init__(
        self,
        train: Sequence[RowRecord],
        held_out: Sequence[RowRecord],
        cleaning: Cleaning,
    ) -> None:
        self._cleaning = cleaning
        self._held_out = _questions(held_out)
        others = _questions(train)
        self._folded = {_folded(text): "duplicates" for text in others}
        self._folded |= {_folded(text): "heldOut" for text in self._held_out}
        asked = cleaning.near_duplicates
        # NB: filled once. Searched anew in each round, 100,000 rows took three seconds of it.
        self._index = NearDuplicateIndex(asked.threshold, asked.seed)
        self._index.add([*self._held_out, *others])
        # Kept in this round; to know each by itself would sort the index as often.
        self._pending: list[str] = []
        self._held_out_texts = [compared_text(_as_row(record)) for record in held_out]

    def repeated(self, questions: Sequence[str]) -> dict[int, str]:
        """Places of questions that are nearly asked already, or earlier in the list, and why."""
        self._index.add(self._pending)
        self._pending = []
        found = self._equal(questions)
        asked = self._cleaning.near_duplicates
        groups = near_duplicate_groups(questions, asked.threshold, asked.seed)
        known: dict[int, int] = {}
        for place, text in self._index.alike(list(questions)).items():
            known.setdefault(groups[place], text)
        for place, group in enumerate(groups):
            if group in known:
                is_held_out = known[group] < len(self._held_out)
                found.setdefault(place, "heldOut" if is_held_out else "duplicates")
            elif group != place:
                found.setdefault(place, "duplicates")
        return found

    def contaminated(self, rows: Sequence[Row]) -> set[int]:
        """Places of rows that hold a held-out one."""
        asked = self._cleaning.contamination
        texts = [compared_text(row) for row in rows]
        return set(
            contaminated(texts, self._held_out_texts, ngram=asked.ngram, overlap=asked.overlap)
        )

    def add(self, questions: Sequence[str]) -> None:
        """No later row may ask these again."""
        self._folded |= {_folded(text): "duplicates" for text in questions}
        self._pending += questions

    def _equal(self, questions: Sequence[str]) -> dict[int, str]:
        """Those that are the same in any case and spacing, which may be without a word."""
        seen, found = dict(self._folded), dict[int, str]()
        for place, question in enumerate(map(_folded, questions)):
            if question in seen:
                found[place] = seen[question]
            seen.setdefault(question, "duplicates")
        return found


def _folded(text: str) -> str:
    return squeezed(text).casefold()


def _questions(records: Sequence[RowRecord]) -> list[str]:
    said = [turn.content for row in records for turn in row.messages or () if turn.role == "user"]
    # A row that is repeated to balance groups asks one question.
    return list(dict.fromkeys(said))


def _as_row(record: RowRecord) -> Row:
    return Row(source=record.source, messages=tuple(record.messages or ()), text=record.text)
