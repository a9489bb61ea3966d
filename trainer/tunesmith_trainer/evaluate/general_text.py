"""The general suite: text that has nothing to do with the task, so that forgetting shows.

The text that ships with Tunesmith (`general_text.txt`) is made of short original passages of many
kinds: encyclopaedic, narrative, instructions, dialogue, arithmetic, letters and code.
`spec.evaluation.generalText` replaces it. `evaluate` and `compress` score the same rows.
"""

import io
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
from tunesmith_trainer.data.begin_token import begin_ids
from tunesmith_trainer.data.file_formats import opened
from tunesmith_trainer.data.rows import Problems
from tunesmith_trainer.data.token_rows import TokenRows

WINDOW_TOKENS = 512
# Scoring is done up to four times in a job: base, tuned, merged and compressed model.
MAX_TOKENS = 65_536


@dataclass(frozen=True, slots=True)
class GeneralText:
    """Rows of the general suite, every token but a row's first a target."""

    rows: TokenRows
    warnings: list[str]


def load_general_text(
    request: StageRequest, tokenizer: PreTrainedTokenizerBase, *, context_length: int
) -> GeneralText:
    """Tokenize the job's general text.

    A passage ends at a blank line; one longer than `WINDOW_TOKENS`, or than the model's context,
    becomes several rows, each with the begin token where the model has one.

    Raises:
        StageError: the text of the manifest cannot be read or holds nothing.
    """
    pieces = [piece.strip() for text in _texts(request) for piece in text.split("\n\n")]
    begin = begin_ids(tokenizer)
    width = min(WINDOW_TOKENS, context_length) - len(begin)
    windows = [
        [*begin, *ids[start : start + width]]
        for piece in pieces
        for ids in [tokenizer(piece, add_special_tokens=False)["input_ids"]]
        for start in range(0, len(ids), width)
    ]
    # A row of one token has no target: nothing comes before it.
    rows = [ids for ids in windows if len(ids) > 1]
    if not rows:
        raise BadInputError(
            Reason.DATASET_INVALID,
            "spec.evaluation.generalText holds no text to score; give a plain text file with "
            "passages between blank lines.",
        )
    ends = np.cumsum([len(ids) for ids in rows])
    kept = rows[: max(1, int(np.searchsorted(ends, MAX_TOKENS, side="right")))]
    warning = (
        f"spec.evaluation.generalText is long: its first {len(kept)} of {len(rows)} passages "
        f"({MAX_TOKENS:,} tokens) are scored."
    )
    return GeneralText(
        rows=TokenRows.of((ids, [False] + [True] * (len(ids) - 1)) for ids in kept),
        warnings=[warning] if len(kept) < len(rows) else [],
    )


def _texts(request: StageRequest) -> list[str]:
    source = request.spec.evaluation.general_text
    if source is None:
        shipped = resources.files("tunesmith_trainer.evaluate").joinpath("general_text.txt")
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
    problems = Problems()
    raw = b""
    with opened(path, label=path.name, problems=problems) as file:
        raw = file.read()
    problems.refuse()
    try:
        # Windows editors begin a file with a mark that would become a token.
        return io.StringIO(raw.decode("utf-8-sig"), newline=None).read()
    except UnicodeDecodeError as error:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"spec.evaluation.generalText: {path.name} is not UTF-8 text (byte {error.start}); "
            "convert it.",
        ) from error
