"""Which held-out rows a job with a search chooses by, and which its evaluation scores.

The lowest of many losses is low by chance, too: on the rows that chose it, it tells nothing of how
good the model is. So the held-out rows are parted, whole first questions at a time, by a digest of
the question: every stage, on any machine, parts them alike.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageName, StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning.row_keys import RowKey, question_key
from tunesmith_trainer.data.prepared import Prepared, RowRecord, load_prepared
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.models import KEPT_TOKENS, distilled_folder

# The stages that choose: settings, and the step whose weights are kept.
_CHOOSING: Final[tuple[StageName, ...]] = ("search", "train")


def load_rows_of_stage(request: StageRequest) -> Prepared:
    """What prepare left, its held-out rows those that this stage may see.

    All of them without a search: then nothing but the best step was chosen by them.

    Raises:
        BadInputError: the held-out rows cannot be parted.
        KeyError: the request carries no result of prepare, or one without its artifacts.
        OSError: an artifact is gone.
    """
    prepared = as_trimmed(request, load_prepared(request))
    search = request.spec.search
    if search is None:
        return prepared
    keys = [record_key(record) for record in prepared.records("validation")]
    choosing, scoring = parted(keys, fraction=search.selection_fraction)
    rows = choosing if request.stage in _CHOOSING else scoring
    return prepared.with_rows({"validation": rows})


def as_trimmed(request: StageRequest, prepared: Prepared) -> Prepared:
    """The rows in tokens of the model that `distill` left, if that has fewer than the base."""
    distilled, kept = distilled_folder(request), kept_before(request)
    if distilled is None or kept is None:
        return prepared
    return prepared.renumbered(numbers_of(kept), model=distilled)


def kept_before(request: StageRequest) -> NDArray[np.int64] | None:
    """The ids that `distill` left, ascending; None where this stage does not read it, or of all."""
    distilled = distilled_folder(request)
    path = distilled / KEPT_TOKENS if distilled else None
    return np.load(path) if path is not None and path.is_file() else None


def load_rows_that_choose(request: StageRequest) -> Prepared:
    """As `load_rows_of_stage` of a stage that chooses a best step."""
    return load_rows_of_stage(request.model_copy(update={"stage": _CHOOSING[-1]}))


def numbers_of(kept: NDArray[np.int64]) -> NDArray[np.int32]:
    """The new id of each old one, of which those in `kept` stay, ascending; -1 of what goes."""
    numbers = np.full(int(kept.max()) + 1, -1, dtype=np.int32)
    numbers[kept] = np.arange(len(kept), dtype=np.int32)
    return numbers


def parted(keys: Sequence[Hashable], *, fraction: float) -> tuple[list[int], list[int]]:
    """Numbers of the rows to choose by, about that part of all, and of the others; both ascending.

    Raises:
        BadInputError: all rows share one key.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    if len(groups) < 2:  # noqa: PLR2004 - one to choose by, one to score
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"search: {len(keys)} held-out row(s) of {len(groups)} first question(s) cannot be "
            "parted into those that choose and those that are scored; raise "
            "dataset.validationFraction, or add rows to dataset.validation",
        )
    shuffled = sorted(groups.items(), key=lambda item: digest_of_key(item[0]))
    chosen: list[int] = []
    for _, rows in shuffled[:-1]:
        if not chosen or len(chosen) + len(rows) <= fraction * len(keys):
            chosen += rows
    return sorted(chosen), sorted(set(range(len(keys))) - set(chosen))


def record_key(record: RowRecord) -> RowKey:
    """What rows have in common that are never on two sides of a split."""
    return question_key(row_of(record))


def row_of(record: RowRecord) -> Row:
    """The row as it was before it was written down."""
    return Row(
        source=record.source,
        messages=tuple(record.messages or ()),
        text=record.text,
        tools=record.tools,
        origin=record.origin,
        rationale=record.rationale or "",
        highlights=record.highlights,
    )


def digest_of_key(key: Hashable) -> bytes:
    """An order of keys that is the same on every machine, and none of the rows' own."""
    return hashlib.sha256(repr(key).encode("utf-8", "surrogatepass")).digest()
