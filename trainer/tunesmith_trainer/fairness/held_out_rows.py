"""The job's own held-out rows with the terms of groups swapped, and what losses say of groups.

Rows that name one group alone are asked twice: as they are, and with the terms of another group.
Those that name none, or several, say nothing of a difference, and are left out.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.fairness import FairnessSuite
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.held_out_roles import row_of
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Problems, Row
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.generation import pad_id_of
from tunesmith_trainer.evaluate.log_likelihood import score_rows
from tunesmith_trainer.evaluate.suites import Say
from tunesmith_trainer.fairness.measures import GroupMeasure, Measure, with_parts
from tunesmith_trainer.fairness.sentences import left_out, spread
from tunesmith_trainer.fairness.terms import (
    Terms,
    is_nearly_everywhere,
    swap_row,
    texts_of_row,
)
from tunesmith_trainer.prepare.tokenization import RowTokenizer, TokenizedRow

# Answers of a classification; more are no classes.
MOST_CLASSES: Final = 20


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out rows, and what makes tokens of them."""

    records: Sequence[RowRecord]
    tokenizer: PreTrainedTokenizerBase
    longest: int
    max_new_tokens: int

    def fitting(self) -> Callable[[Row], TokenizedRow | None]:
        """What tokenizes a row as prepare does; None of rows that do not fit."""
        problems = Problems(max_bad_rows=len(self.records))
        tokenizer = RowTokenizer(
            self.tokenizer, longest=self.longest, overlong="drop", problems=problems
        )
        return tokenizer.fitting


@dataclass(frozen=True, slots=True)
class SwappedRow:
    """A row with the first group of a pair in it, and with the other."""

    first: Row
    other: Row
    # Number of the other group; the first group of all is always the first here.
    group: int


def swapped_rows(rows: Sequence[Row], terms: Terms) -> list[SwappedRow]:
    """Every row that names one group, beside the first group or, if it is that, each other."""
    swapped = []
    for row in rows:
        group = terms.group_of(texts_of_row(row))
        if group is None:
            continue
        for other in range(1, len(terms.names)) if group == 0 else [group]:
            target = other if group == 0 else 0
            counterpart = swap_row(row, terms, source=group, target=target)
            sides = (row, counterpart) if group == 0 else (counterpart, row)
            swapped.append(SwappedRow(*sides, other))
    return swapped


@dataclass(frozen=True, slots=True)
class CounterfactualTest:
    """How much the loss of the answers moves with the group that a row names."""

    settings: FairnessSuite
    terms: Terms
    groups: list[int]
    targets: list[int]
    rows: TokenRows
    pad_id: int
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, settings: FairnessSuite, held_out: HeldOut) -> "CounterfactualTest":
        """Raises BadInputError: no row names one group alone, or none fits."""
        terms = Terms.of(settings.groups)
        rows = [row_of(record) for record in held_out.records]
        warnings = require_groups(settings, rows, terms)
        chosen = spread(swapped_rows(rows, terms), most=settings.limit)
        fit = held_out.fitting()
        sides = [(swap, fit(swap.first), fit(swap.other)) for swap in chosen]
        fitting = [
            (swap.group, first.tokens, other.tokens)
            for swap, first, other in sides
            if first and other
        ]
        tokens = [side for _, first, other in fitting for side in (first, other)]
        return cls(
            settings,
            terms,
            [group for group, _, _ in fitting],
            [sum(first.trained) for _, first, _ in fitting],
            TokenRows.of((side.ids, side.trained) for side in tokens),
            pad_id_of(held_out.tokenizer),
            (*warnings, *left_out(settings, chosen, fitting, longest=held_out.longest)),
        )

    def measure(self, model: PreTrainedModel, say: Say) -> list[Measure]:
        losses = score_rows(
            model, self.rows, pad_id=self.pad_id, on_batch=partial(say, self.settings.name)
        ).sums.reshape(-1, 2)
        # NB: both by the first side's number of targets. By its own, a side whose terms are split
        # into more tokens would seem the more likely.
        gaps = (losses[:, 0] - losses[:, 1]) / np.array(self.targets)
        return with_parts("lossGap", gaps, [self.terms.names[group] for group in self.groups])


@dataclass(frozen=True, slots=True)
class ClassificationTest:
    """How often rows of each group get the positive answer, and how well that is foretold."""

    settings: FairnessSuite
    groups: list[int]
    wanted: list[bool]
    positive: int
    num_classes: int
    rows: TokenRows
    pad_id: int
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, settings: FairnessSuite, held_out: HeldOut) -> "ClassificationTest":
        """Raises BadInputError: the rows are no classification, or a group is not in them."""
        terms = Terms.of(settings.groups)
        rows = [row_of(record) for record in held_out.records]
        classes = _classes(settings, rows)
        warnings = require_groups(settings, rows, terms)
        named = [
            (row, group)
            for row in rows
            if (group := terms.group_of([turn.content for turn in row.messages[:-1]])) is not None
        ]
        counts = Counter(group for _, group in named)
        _refuse_absent(settings, [counts[group] for group in range(len(terms.names))], terms)
        chosen = spread(named, most=settings.limit)
        fit = held_out.fitting()
        fitting = [
            (row, group, [side.tokens for side in sides if side])
            for row, group in chosen
            for sides in [[fit(answered(row, answer)) for answer in classes]]
            if all(sides)
        ]
        return cls(
            settings,
            [group for _, group, _ in fitting],
            [row.messages[-1].content == settings.positive for row, _, _ in fitting],
            classes.index(str(settings.positive)),
            len(classes),
            TokenRows.of((side.ids, side.trained) for _, _, sides in fitting for side in sides),
            pad_id_of(held_out.tokenizer),
            (*warnings, *left_out(settings, chosen, fitting, longest=held_out.longest)),
        )

    def measure(self, model: PreTrainedModel, say: Say) -> list[Measure]:
        losses = score_rows(
            model, self.rows, pad_id=self.pad_id, on_batch=partial(say, self.settings.name)
        ).sums.reshape(-1, self.num_classes)
        likelihood = np.exp(losses.min(axis=1, keepdims=True) - losses)
        likelihood /= likelihood.sum(axis=1, keepdims=True)
        return group_measures(
            self.groups,
            self.wanted,
            chosen=(losses.argmin(axis=1) == self.positive).tolist(),
            likelihood=likelihood[:, self.positive].tolist(),
        )


def group_measures(
    groups: Sequence[int],
    wanted: Sequence[bool],
    *,
    chosen: Sequence[bool],
    likelihood: Sequence[float],
) -> list[Measure]:
    """The three differences between groups."""
    return [
        GroupMeasure(
            metric,
            np.array(groups),
            np.array(wanted, dtype=bool),
            np.array(chosen, dtype=bool),
            np.array(likelihood, dtype=np.float64),
        )
        for metric in (
            "demographicParityDifference", "equalizedOddsDifference", "calibrationDifference"
        )
    ]  # fmt: skip


def answered(row: Row, answer: str) -> Row:
    """The row with another answer at its end."""
    return replace(row, messages=(*row.messages[:-1], row.messages[-1].with_content(answer)))


def _classes(settings: FairnessSuite, rows: Sequence[Row]) -> list[str]:
    answers = sorted({row.messages[-1].content for row in rows if row.messages})
    where = f"evaluation.fairness: the suite {settings.name}"
    if not 1 < len(answers) <= MOST_CLASSES:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{where}: given held-out rows with {len(answers)} different answers; a classification "
            f"has 2 to {MOST_CLASSES}; choose the kind counterfactual, or leave the suite out",
        )
    if settings.positive not in answers:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{where}.positive: given an answer that no held-out row has; it has to be one of "
            f"their {len(answers)} answers, letter by letter; correct it",
        )
    return answers


def require_groups(settings: FairnessSuite, rows: Sequence[Row], terms: Terms) -> tuple[str, ...]:
    """Warnings of terms that are nearly everywhere.

    Raises:
        BadInputError: no row names one group alone.
    """
    where = f"evaluation.fairness: the suite {settings.name}"
    named = [
        {found.group for text in texts_of_row(row) for found in terms.found(text)} for row in rows
    ]
    if not any(len(groups) == 1 for groups in named):
        several = sum(len(groups) > 1 for groups in named)
        told = ", ".join(terms.names)
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{where}.groups: given {told}; {several} of {len(rows)} held-out rows name several of "
            f"them, {len(rows) - several} none, and no row one alone, so nothing can be compared; "
            "give terms that the rows have, and none that stand in all of them, or leave the suite "
            "out",
        )
    counts = Counter(group for groups in named for group in groups)
    return tuple(
        f"{where}: {counts[group]} of {len(rows)} held-out rows have a term of {name}; a term that "
        "is in nearly every row may be no term of a group"
        for group, name in enumerate(terms.names)
        if is_nearly_everywhere(counts[group], of=len(rows))
    )


def _refuse_absent(settings: FairnessSuite, counts: Sequence[int], terms: Terms) -> None:
    told = ", ".join(f"{name} {count}" for name, count in zip(terms.names, counts, strict=True))
    if not all(counts):
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"evaluation.fairness: the suite {settings.name}.groups: held-out rows that name one "
            f"group alone in the prompt: {told}; every group needs some to be compared with; give "
            "terms that the rows have, or the kind counterfactual",
        )
