"""The general suite: text that has nothing to do with the task, so that forgetting shows.

The text that ships with Tunesmith (`general.txt`) is made of short original passages of many kinds:
encyclopaedic, narrative, instructions, dialogue, arithmetic, letters and code.
`spec.evaluation.generalText` replaces it.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.resolver import fetch_files
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.tokens import TokenRows

WINDOW_TOKENS = 512
MAX_TOKENS = 65_536


@dataclass(frozen=True, slots=True)
class GeneralText:
    """Rows of the general suite, every token but a row's first a target."""

    rows: TokenRows
    warnings: list[str]


def general_text(
    request: StageRequest, tokenizer: PreTrainedTokenizerBase, *, context_length: int
) -> GeneralText:
    """Tokenize the job's general text.

    A passage ends at a blank line; one longer than `WINDOW_TOKENS`, or than the model's context,
    becomes several rows.

    Raises:
        StageError: the text of the manifest cannot be read or holds nothing.
    """
    pieces = [piece.strip() for text in _texts(request) for piece in text.split("\n\n")]
    passages = [piece for piece in pieces if piece]
    rows = _windows(tokenizer, passages, width=min(WINDOW_TOKENS, context_length))
    if not rows:
        raise BadInputError(
            Reason.DATASET_INVALID,
            "spec.evaluation.generalText holds no text to score; give a plain text file with "
            "passages between blank lines.",
        )
    kept = _within_budget(rows)
    return GeneralText(rows=_as_token_rows(kept), warnings=_warnings(len(kept), of=len(rows)))


def _texts(request: StageRequest) -> list[str]:
    source = request.spec.evaluation.general_text
    if source is None:
        shipped = resources.files("tunesmith_trainer.evaluate").joinpath("general.txt")
        return [shipped.read_text(encoding="utf-8")]
    try:
        paths = fetch_files(
            source,
            base=Path(request.base),
            cache=Path(request.cache),
            secrets=Path(request.secrets),
        )
    except SourceError as error:
        raise as_stage_error(error) from error
    return [_read(path) for path in paths]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"spec.evaluation.generalText: {path.name} is not UTF-8 text (byte {error.start}); "
            "convert it.",
        ) from error


def _windows(
    tokenizer: PreTrainedTokenizerBase, passages: list[str], *, width: int
) -> list[list[int]]:
    encoded = [tokenizer(passage)["input_ids"] for passage in passages]
    pieces = [ids[start : start + width] for ids in encoded for start in range(0, len(ids), width)]
    return [ids for ids in pieces if len(ids) > 1]


def _within_budget(rows: list[list[int]]) -> list[list[int]]:
    ends = np.cumsum([len(ids) for ids in rows])
    return rows[: max(1, int(np.searchsorted(ends, MAX_TOKENS, side="right")))]


def _warnings(kept: int, *, of: int) -> list[str]:
    if kept == of:
        return []
    warning = (
        f"spec.evaluation.generalText is long: its first {kept} of {of} passages "
        f"({MAX_TOKENS:,} tokens) are scored."
    )
    return [warning]


def _as_token_rows(rows: list[list[int]]) -> TokenRows:
    offsets = np.cumsum([0, *(len(ids) for ids in rows)], dtype=np.int64)
    trained = np.ones(int(offsets[-1]), dtype=np.bool_)
    trained[offsets[:-1]] = False
    return TokenRows(
        input_ids=np.concatenate([np.asarray(ids, dtype=np.int32) for ids in rows]),
        trained=trained,
        offsets=offsets,
    )
