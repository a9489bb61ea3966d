"""Which groups of people training rows name, and those rows with another group's terms.

`run_parts` asks, for `training.fairness`. A row is of a group if it names that one alone, by the
terms that `evaluation.fairness` swaps, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunesmith_api.finetunejob.fairness_remedy import FairnessRemedy
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.held_out_roles import row_of
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.fairness.held_out_rows import HeldOut, swapped_rows
from tunesmith_trainer.fairness.terms import (
    Terms,
    refuse_shared_terms,
    swap_row,
    texts_of_row,
)
from tunesmith_trainer.prepare.tokenization import TokenizedRow

FIELD: Final = "training.fairness"
NO_GROUP: Final = -1


@dataclass(frozen=True, slots=True)
class GroupRows:
    """Rows as people read them, with the terms that are looked for.

    Attributes:
        terms: of the groups.
        rows: in the order of their tokens.
        groups: the group of each; NO_GROUP of those that name none, or several.
        fit: tokenizes a row as prepare does; None of what is too long.
    """

    terms: Terms
    rows: list[Row]
    groups: NDArray[np.int64]
    fit: Callable[[Row], TokenizedRow | None]

    @classmethod
    def of(
        cls,
        records: Sequence[RowRecord],
        remedy: FairnessRemedy,
        *,
        tokenizer: PreTrainedTokenizerBase,
        longest: int,
    ) -> "GroupRows":
        """Raises BadInputError: a term stands twice."""
        refuse_shared_terms(remedy.groups, field=f"{FIELD}.groups")
        terms, rows = Terms.of(remedy.groups), [row_of(record) for record in records]
        found = [terms.group_of(texts_of_row(row)) for row in rows]
        groups = np.array([NO_GROUP if one is None else one for one in found], dtype=np.int64)
        fit = HeldOut(records, tokenizer, longest=longest, max_new_tokens=1).fitting()
        return cls(terms, rows, groups, fit)

    def require_all_groups(self) -> None:
        """Return if some row names each group alone.

        Raises:
            BadInputError: none does.
        """
        counts = [int((self.groups == group).sum()) for group in range(len(self.terms.names))]
        if not all(counts):
            told = ", ".join(
                f"{name} {count}" for name, count in zip(self.terms.names, counts, strict=True)
            )
            raise BadInputError(
                Reason.DATASET_INVALID,
                f"{FIELD}.groups: training rows that name one group alone: {told}, of "
                f"{len(self.rows)}; every group needs some; give terms that the rows have, or "
                "leave fairness out",
            )

    def twins(self, *, with_equal_answers: bool) -> tuple[list[int], TokenRows]:
        """Numbers of the rows that name one group alone, and each with another group's terms.

        `with_equal_answers`: only rows whose answer is the same in both. Of several other groups
        each has its turn.

        Raises:
            BadInputError: there is none.
        """
        numbers, sides = [], []
        for number, (row, group) in enumerate(zip(self.rows, self.groups.tolist(), strict=True)):
            if group == NO_GROUP:
                continue
            others = [one for one in range(len(self.terms.names)) if one != group]
            other = swap_row(row, self.terms, source=group, target=others[number % len(others)])
            own, twin = self.fit(row), self.fit(other)
            if own and twin and (not with_equal_answers or _targets(own) == _targets(twin)):
                numbers.append(number)
                sides.append(twin.tokens)
        if not numbers:
            raise BadInputError(
                Reason.DATASET_INVALID,
                f"{FIELD}.groups: given {', '.join(self.terms.names)}; "
                f"{int((self.groups != NO_GROUP).sum())} of {len(self.rows)} training rows name "
                "one of them alone, and none can be compared with itself"
                + (" by symmetricKl, which needs answers that name no group" * with_equal_answers)
                + "; give terms that the rows have"
                + (", or distance: logLikelihood" * with_equal_answers),
            )
        return numbers, TokenRows.of((side.ids, side.trained) for side in sides)

    def pairs(self) -> tuple[TokenRows, TokenRows]:
        """Rows with the first group of a pair, and with the other; none where no row names one."""
        sides = [
            (first.tokens, other.tokens)
            for swap in swapped_rows(self.rows, self.terms)
            if (first := self.fit(swap.first)) and (other := self.fit(swap.other))
        ]
        first_rows, other_rows = (
            TokenRows.of((pair[side].ids, pair[side].trained) for pair in sides) for side in (0, 1)
        )
        return first_rows, other_rows


def _targets(row: TokenizedRow) -> list[int]:
    tokens = row.tokens
    return [
        token for token, is_trained in zip(tokens.ids, tokens.trained, strict=True) if is_trained
    ]
