"""Rows that name one group of people once more, with another group's terms in place.

A child has its parent's name, so that splits and folds keep both on one side. What must not change
with a group, numbers, quotes, negations and other names, is compared as for every child; what the
base model finds much less likely than the parent is thrown away where the job asks for it, for a
swap that breaks grammar or facts teaches both.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from pydantic import JsonValue

from tunesmith_api.finetunejob.augmentation import Counterfactual
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.augment.meaning import says_the_same
from tunesmith_trainer.augment.new_rows import NewRows
from tunesmith_trainer.data.rows import Origin, Row
from tunesmith_trainer.fairness.terms import (
    Terms,
    is_nearly_everywhere,
    refuse_shared_terms,
    swap_row,
    texts_of_row,
)

_FIELD: Final = "dataset.augmentation.counterfactual"
# A place that no text has: what is left of a term in a comparison of all else.
_BLANK: Final = "\u2402"


@dataclass(frozen=True, slots=True)
class SwappedRows:
    """Parents and children, in pairs; what was thrown away, by cause; and warnings."""

    parents: list[Row]
    children: list[Row]
    refused: dict[str, int]
    warnings: tuple[str, ...]

    def card(self, children: int, refused: dict[str, int]) -> dict[str, JsonValue]:
        """For the data card: how many stayed of them."""
        return {"children": children, "thrownAway": {**self.refused, **refused}}


def counterfactual_rows(
    rows: Sequence[Row], held_out: Sequence[Row], *, settings: Counterfactual
) -> SwappedRows:
    """A child of each row that names one group alone, for each other group.

    Raises:
        BadInputError: a term stands twice, or no row names one group alone.
    """
    refuse_shared_terms(settings.groups, field=f"{_FIELD}.groups")
    terms = Terms.of(settings.groups)
    parents, children = [], []
    refused: Counter[str] = Counter()
    new = NewRows(rows, held_out, refused=refused)
    groups = [terms.group_of(texts_of_row(row)) for row in rows]
    for row, group in zip(rows, groups, strict=True):
        for target in range(len(terms.names)):
            if group is None or target == group:
                continue
            child = _child(row, terms, source=group, target=target)
            cause = _cause(row, child, terms)
            if cause is not None:
                refused[cause] += 1
            elif new.takes(child):
                parents.append(row)
                children.append(child)
    if not children:
        _refuse_none(len(rows), sum(group is not None for group in groups), refused, terms)
    counts = Counter(group for group in groups if group is not None)
    return SwappedRows(parents, children, dict(refused), _warnings(counts, len(rows), terms))


def likely(
    parents: Sequence[float], children: Sequence[float], *, max_loss_rise: float
) -> list[int]:
    """Numbers of the children that are likely enough; losses are nats per trained token."""
    rises = np.asarray(children) - np.asarray(parents)
    return [int(place) for place in np.flatnonzero(rises <= max_loss_rise)]


def _child(row: Row, terms: Terms, *, source: int, target: int) -> Row:
    swapped = swap_row(row, terms, source=source, target=target)
    return replace(swapped, origin=Origin("counterfactual", parent=row.source))


def _cause(row: Row, child: Row, terms: Terms) -> str | None:
    """Why a child is of no use; None where it is."""
    texts = list(zip(texts_of_row(row), texts_of_row(child), strict=True))
    if all(text == other for text, other in texts):
        return "unchanged"
    # Terms may be names, or part of what is compared: without them, all has to be as it was.
    same = all(
        says_the_same(
            terms.without(text, blank=_BLANK), terms.without(other, blank=_BLANK), min_similarity=1
        )
        for text, other in texts
    )
    return None if same else "otherMeaning"


def _refuse_none(num_rows: int, named: int, refused: Counter[str], terms: Terms) -> None:
    causes = ", ".join(f"{count} {cause}" for cause, count in refused.items()) or "none"
    raise BadInputError(
        Reason.DATASET_INVALID,
        f"spec.{_FIELD}.groups: given {', '.join(terms.names)}; {named} of {num_rows} training "
        f"rows name one of them alone, and not one child is of use (thrown away: {causes}); give "
        "terms that the rows have, and none that stand in all of them, or leave counterfactual out",
    )


def _warnings(counts: Counter[int], num_rows: int, terms: Terms) -> tuple[str, ...]:
    absent = [name for group, name in enumerate(terms.names) if not counts[group]]
    told = [f"{_FIELD}: no training row names {name} alone" for name in absent]
    if is_nearly_everywhere(counts.total(), of=num_rows):
        told.append(
            f"{_FIELD}: {counts.total()} of {num_rows} training rows name one group; a term that "
            "is in nearly every row may be no term of a group"
        )
    return tuple(told)
