"""What the job's remedies make of the training rows, behind the split: held-out rows stay as given.

`stage` calls it. Each remedy is a module of its own; what it did stands in the data card under its
field's name, and is told in the stage's message.
"""

from dataclasses import dataclass, replace

from pydantic import JsonValue

from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.prepare.balance import balance_rows
from tunesmith_trainer.prepare.splits import Splits


@dataclass(frozen=True, slots=True)
class RemediedRows:
    """The splits with the rows to train on, and what is told of them."""

    splits: Splits
    card: dict[str, JsonValue]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def remedied_rows(request: StageRequest, splits: Splits) -> RemediedRows:
    """Apply what `spec.dataset` asks for.

    Raises:
        StageError: a remedy cannot be applied to these rows.
    """
    settings = request.spec.dataset.balance
    if settings is None:
        return RemediedRows(splits, card={}, notes=(), warnings=())
    balanced = balance_rows(splits.train, settings)
    return RemediedRows(
        replace(splits, train=balanced.rows),
        card={"balance": balanced.card},
        notes=(balanced.note,),
        warnings=balanced.warnings,
    )
