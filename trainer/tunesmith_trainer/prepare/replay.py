"""The general rows of `dataset.replay.source`, read and tokenized as the job's own rows are.

`stage` calls it behind the split: rows that are held out or learnt anyway remind the model of
nothing.
"""

from dataclasses import dataclass
from typing import Final

from tunesmith_api.finetunejob.replay import Replay
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning.findings import Finding
from tunesmith_trainer.data.cleaning.row_keys import digest_of, row_key
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.prepare.loading import load_data
from tunesmith_trainer.prepare.splits import Splits
from tunesmith_trainer.prepare.tokenization import RowTokenizer

# Part of the rows; more than that in common is no accident.
_MOSTLY: Final = 0.5


@dataclass(frozen=True, slots=True)
class ReplayRows:
    """Replay rows as tokens, how many were left out as the job's own, what cleaning found."""

    tokens: TokenRows
    num_own: int
    findings: list[Finding]


def read_replay(
    request: StageRequest, splits: Splits, *, row_tokenizer: RowTokenizer, reporter: Reporter
) -> ReplayRows | None:
    """The rows of `dataset.replay.source`; None where the job names none.

    Raises:
        StageError: the source cannot be fetched, its rows break a rule, or they are the job's own.
    """
    replay = request.spec.dataset.replay
    if replay is None or replay.source is None:
        return None
    reporter.progress("reading the replay rows")
    # One allowance of bad rows for all that the job reads.
    data = load_data(
        _as_dataset(request, replay),
        problems=row_tokenizer.problems,
        reporter=reporter,
        split="replay",
    )
    loaded = data.sources["train"]
    sides = (splits.train, splits.validation)
    own = {digest_of(row_key(row.row)) for rows in sides for row in rows}
    others = loaded.rows.chosen(
        [place for place, row in enumerate(loaded.rows) if digest_of(row_key(row)) not in own]
    )
    num_own = len(loaded.rows) - len(others)
    if num_own > _MOSTLY * len(loaded.rows):
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"dataset.replay.source: {num_own} of its {len(loaded.rows)} rows are rows of this "
            "job, which are learnt or held out anyway; give general data, or selfSynthesis",
        )
    tokenized = row_tokenizer.tokenize(others, reporter=reporter)
    if not tokenized:
        raise BadInputError(
            Reason.DATASET_INVALID,
            "dataset.replay.source: no rows left; all are empty or longer than "
            "training.sequenceLength",
        )
    tokens = TokenRows.of((row.tokens.ids, row.tokens.trained) for row in tokenized)
    return ReplayRows(tokens=tokens, num_own=num_own, findings=data.findings)


def _as_dataset(request: StageRequest, replay: Replay) -> StageRequest:
    """The request of a job whose rows these are."""
    dataset = request.spec.dataset.model_copy(
        update={
            "train": replay.source,
            "validation": None,
            "format": replay.format,
            "columns": replay.columns,
            "split": None,
            "balance": None,
            "rationale": None,
        }
    )
    spec = request.spec.model_copy(update={"dataset": dataset})
    return request.model_copy(update={"spec": spec})
