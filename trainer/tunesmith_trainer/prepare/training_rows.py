"""What the job's remedies make of the training rows, behind the split: held-out rows stay as given.

`stage` calls it. Each remedy is a module of its own; what it did stands in the data card under its
field's name, and is told in the stage's message.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from tunesmith_api.finetunejob.augmentation import Augmentation, Counterfactual
from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_trainer.augment.adversarial_prompts import attacked_children, sensitive_rows
from tunesmith_trainer.augment.children import Children, children_of
from tunesmith_trainer.augment.counterfactual import counterfactual_rows, likely
from tunesmith_trainer.augment.generator import TextGenerator
from tunesmith_trainer.data.cleaning.findings import Finding
from tunesmith_trainer.data.cleaning.made_rows import MadeRows
from tunesmith_trainer.data.lacking_groups import LackingGroups
from tunesmith_trainer.data.rows import Problems, Row
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.prepare.balance import balance_rows
from tunesmith_trainer.prepare.base_losses import mean_losses
from tunesmith_trainer.prepare.loading import LoadedData, load_data
from tunesmith_trainer.prepare.splits import Splits
from tunesmith_trainer.prepare.tokenization import RowTokenizer, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class RemediedRows:
    """The splits with the rows to train on, what is told of them, and what is left to write."""

    splits: Splits
    card: dict[str, JsonValue]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    lacking: LackingGroups | None = None
    # What cleaning found in rows that a remedy has read.
    findings: tuple[Finding, ...] = ()


def remedied_rows(
    request: StageRequest,
    splits: Splits,
    *,
    generators: Sequence[TextGenerator],
    tokenizer: "PreTrainedTokenizerBase",
    model: Path,
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
    if settings is not None and generators:
        children = children_of(
            [row.row for row in splits.train],
            [row.row for row in splits.validation],
            settings=settings,
            generators=generators,
            made=made,
            reporter=reporter,
            output=Path(request.output),
        )
        row_tokenizer = _of_children(len(children.rows), tokenizer, longest=longest)
        tokenized = row_tokenizer.tokenize(StoredRows.of(children.rows), reporter=reporter)
        remedied = _augmented(remedied, children, tokenized)
    if settings is not None and settings.counterfactual is not None:
        # Of the rows that were given: those in other words have a child already.
        fit = _of_children(len(splits.train), tokenizer, longest=longest).fitting
        remedied = _swapped(remedied, splits, settings.counterfactual, fit=fit, model=model)
    if settings is not None and settings.adversarial is not None:
        fit = _of_children(2 * len(splits.train), tokenizer, longest=longest).fitting
        sensitive = _read_sensitive(request, reporter)
        remedied = _attacked(remedied, splits, settings, sensitive=sensitive, fit=fit)
    return _balanced(request, remedied)


def _of_children(
    number: int, tokenizer: "PreTrainedTokenizerBase", *, longest: int
) -> RowTokenizer:
    # What is too long, or unfit, is thrown away, whatever the user's own rows may be.
    problems = Problems(max_bad_rows=number)
    return RowTokenizer(tokenizer, longest=longest, overlong="drop", problems=problems)


def _swapped(
    before: RemediedRows,
    splits: Splits,
    settings: Counterfactual,
    *,
    fit: Callable[[Row], TokenizedRow | None],
    model: Path,
) -> RemediedRows:
    """With the rows whose terms of a group are swapped, as far as the base finds them likely."""
    swapped = counterfactual_rows(
        [row.row for row in splits.train],
        [row.row for row in splits.validation],
        settings=settings,
    )
    pairs = [
        (parent, child)
        for given, made in zip(swapped.parents, swapped.children, strict=True)
        if (parent := fit(given)) and (child := fit(made))
    ]
    refused = {"overlong": len(swapped.children) - len(pairs)}
    if settings.max_loss_rise is not None and pairs:
        kept = _likely(pairs, settings.max_loss_rise, model=model)
        refused["unlikely"] = len(pairs) - len(kept)
        pairs = [pairs[place] for place in kept]
    children = [child for _, child in pairs]
    thrown = {cause: number for cause, number in refused.items() if number}
    return RemediedRows(
        replace(before.splits, train=StoredRows.of(chain(before.splits.train, children))),
        card={**before.card, "counterfactual": swapped.card(len(children), thrown)},
        notes=(*before.notes, f"{len(children)} rows with swapped groups added"),
        warnings=(*before.warnings, *swapped.warnings),
    )


def _read_sensitive(request: StageRequest, reporter: Reporter) -> LoadedData | None:
    """The rows that the job names; None where it names none."""
    dataset = request.spec.dataset
    adversarial = dataset.augmentation and dataset.augmentation.adversarial
    if not adversarial or adversarial.sensitive is None:
        return None
    reporter.progress("reading the rows about sensitive subjects")
    alone = dataset.model_copy(
        update={
            "train": adversarial.sensitive,
            "validation": None,
            "split": None,
            "balance": None,
            "rationale": None,
        }
    )
    spec = request.spec.model_copy(update={"dataset": alone})
    return load_data(
        request.model_copy(update={"spec": spec}),
        problems=Problems(max_bad_rows=dataset.max_bad_rows),
        reporter=reporter,
        split="sensitive",
    )


def _attacked(
    before: RemediedRows,
    splits: Splits,
    settings: Augmentation,
    *,
    sensitive: LoadedData | None,
    fit: Callable[[Row], TokenizedRow | None],
) -> RemediedRows:
    """With rows whose prompts are attacked, of those that were given, and the sensitive ones."""
    if settings.adversarial is None:
        return before
    train, held_out = ([row.row for row in side] for side in (splits.train, splits.validation))
    made = attacked_children(train, held_out, settings=settings.adversarial, seed=settings.seed)
    given = list(sensitive.sources["train"].rows) if sensitive else []
    kept, left_out = sensitive_rows(given, train, held_out)
    children = [fitted for row in made.rows if (fitted := fit(row))]
    subjects = [fitted for row in kept if (fitted := fit(row))]
    overlong = len(made.rows) + len(kept) - len(children) - len(subjects)
    thrown = {**left_out, **({"overlong": overlong} if overlong else {})}
    told = f", and {len(subjects)} about sensitive subjects" if sensitive else ""
    return RemediedRows(
        replace(before.splits, train=StoredRows.of(chain(before.splits.train, children, subjects))),
        card={
            **before.card,
            "adversarial": made.card(len(children), thrown, sensitive=len(subjects)),
        },
        notes=(*before.notes, f"{len(children)} rows with attacked prompts added{told}"),
        warnings=before.warnings,
        findings=(*before.findings, *(sensitive.findings if sensitive else ())),
    )


def _likely(
    pairs: Sequence[tuple[TokenizedRow, TokenizedRow]], max_loss_rise: float, *, model: Path
) -> list[int]:
    sides = [side.tokens for pair in pairs for side in pair]
    rows = TokenRows.of((side.ids, side.trained) for side in sides)
    means = mean_losses(rows, model=model).reshape(-1, 2)
    return likely(means[:, 0].tolist(), means[:, 1].tolist(), max_loss_rise=max_loss_rise)


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
        lacking=balanced.lacking,
        findings=before.findings,
    )
