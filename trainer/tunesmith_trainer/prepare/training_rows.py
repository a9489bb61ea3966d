"""What the job's remedies make of the training rows, behind the split: held-out rows stay as given.

`stage` calls it. Each remedy is a module of its own; what it did stands in the data card under its
field's name, and is told in the stage's message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_trainer.augment.children import Children, children_of
from tunesmith_trainer.augment.generator import TextGenerator
from tunesmith_trainer.data.cleaning.made_rows import MadeRows
from tunesmith_trainer.data.rows import Problems
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.prepare.balance import balance_rows
from tunesmith_trainer.prepare.splits import Splits
from tunesmith_trainer.prepare.tokenization import RowTokenizer, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class RemediedRows:
    """The splits with the rows to train on, and what is told of them."""

    splits: Splits
    card: dict[str, JsonValue]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def remedied_rows(
    request: StageRequest,
    splits: Splits,
    *,
    generators: Sequence[TextGenerator],
    tokenizer: "PreTrainedTokenizerBase",
    longest: int,
    made: MadeRows,
    reporter: Reporter,
) -> RemediedRows:
    """Apply what `spec.dataset` asks for; balance comes last, and counts what was added.

    Raises:
        StageError: a remedy cannot be applied to these rows.
    """
    remedied = RemediedRows(splits, card={})
    settings = request.spec.dataset.augmentation
    if settings is not None:
        children = children_of(
            [row.row for row in splits.train],
            [row.row for row in splits.validation],
            settings=settings,
            generators=generators,
            made=made,
            reporter=reporter,
            output=Path(request.output),
        )
        # What a generator made too long, or unfit, is thrown away, whatever the user's own rows
        # may be.
        row_tokenizer = RowTokenizer(
            tokenizer,
            longest=longest,
            overlong="drop",
            problems=Problems(max_bad_rows=len(children.rows)),
        )
        tokenized = row_tokenizer.tokenize(StoredRows.of(children.rows), reporter=reporter)
        remedied = _augmented(remedied, children, tokenized)
    return _balanced(request, remedied)


def _augmented(
    before: RemediedRows, children: Children, tokenized: StoredRows[TokenizedRow]
) -> RemediedRows:
    return RemediedRows(
        replace(before.splits, train=StoredRows.of(chain(before.splits.train, tokenized))),
        card={**before.card, "augmentation": children.card},
        notes=(*before.notes, children.note),
        warnings=(*before.warnings, *children.warnings),
    )


def _balanced(request: StageRequest, before: RemediedRows) -> RemediedRows:
    settings = request.spec.dataset.balance
    if settings is None:
        return before
    balanced = balance_rows(before.splits.train, settings)
    return RemediedRows(
        replace(before.splits, train=balanced.rows),
        card={**before.card, "balance": balanced.card},
        notes=(*before.notes, balanced.note),
        warnings=(*before.warnings, *balanced.warnings),
    )
