"""Cleaning's rules for rows that a remedy wrote: secrets, personal data, and rows of benchmarks.

Nobody gave these rows, so what would be removed or refused of given ones is thrown away; what is
masked there is masked here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tunesmith_api.finetunejob.cleaning import Cleaning, SensitivePolicy
from tunesmith_trainer.data.cleaning.contamination import HeldOutGrams, holding
from tunesmith_trainer.data.cleaning.recognizers import masked, spans_of_secrets
from tunesmith_trainer.data.cleaning.row_texts import compared_text, texts_in, with_texts
from tunesmith_trainer.data.cleaning.sensitive_data import Search, personal_data_search
from tunesmith_trainer.data.rows import Row


@dataclass(slots=True)
class MadeRows:
    """Judges made rows; `refused` counts those thrown away, `masked` and `kept` by rule."""

    cleaning: Cleaning
    benchmarks: HeldOutGrams | None
    refused: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)

    def fit(self, rows: Sequence[Row]) -> list[Row]:
        """Those that may be trained on, as they may be."""
        held = self._held(rows)
        self.refused.update(["heldOut"] * len(held))
        treated = (self._treated(row) for place, row in enumerate(rows) if place not in held)
        return [row for row in treated if row is not None]

    def _held(self, rows: Sequence[Row]) -> set[int]:
        if self.benchmarks is None:
            return set()
        asked = self.cleaning.contamination
        texts = [compared_text(row) for row in rows]
        return set(holding(texts, self.benchmarks, ngram=asked.ngram, overlap=asked.overlap))

    def _treated(self, row: Row) -> Row | None:
        personal = self.cleaning.personal_data
        rules: tuple[tuple[str, SensitivePolicy, Search], ...] = (
            ("secrets", self.cleaning.secrets, spans_of_secrets),
            ("personalData", personal.policy, personal_data_search(personal)),
        )
        for rule, policy, find in rules:
            if policy == "keep" or not any(find(text) for text in texts_in(row)):
                continue
            if policy in {"remove", "fail"}:
                self.refused[rule] += 1
                return None
            if policy == "mask":
                self.masked[rule] += 1
                row = with_texts(row, partial(_masked, find=find))
            else:
                self.kept[rule] += 1
        return row


def _masked(text: str, find: Search) -> str:
    return masked(text, find(text))


def kept_warnings(made: MadeRows, *, field: str) -> list[str]:
    """What was found in rows that `field` has made, and left as it was."""
    found = ", ".join(f"{rule} {number}" for rule, number in made.kept.most_common())
    return [f"{field}: found in new rows, and left as it was: {found}"] if found else []
