"""What people read of the data: the data card, and one row as the model sees it.

The card tells where the rows came from, what was left out and why, and what they are like. The
sample is the first training row, decoded, with the part that is trained marked. `stage` writes
both. The card is published; the sample stays beside the data, from where the report takes it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, groupby
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_trainer.data.cleaning.findings import Finding, counted_by_rule
from tunesmith_trainer.data.loss_mask import TokenRow
from tunesmith_trainer.data.prepared import Split
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.prepare.loading import LoadedData
from tunesmith_trainer.prepare.splits import Splits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE_FILE: Final = "sample.json"
_MOST_BINS: Final = 24
_TOKENS_AT_A_TIME: Final = 1 << 20
_PERCENTILES: Final[Mapping[str, int]] = {"min": 0, "p50": 50, "p90": 90, "p99": 99, "max": 100}

# Characters of the sample: it is for a person to look at.
_LONGEST_SAMPLE: Final = 4000
_OPEN: Final = "⟦"
_CLOSE: Final = "⟧"


@dataclass(frozen=True, slots=True)
class RemovedRows:
    """Rows that were left out, by cause; `in_validation`: those that would be on both sides.

    `cleaned` ones were removed by other rules of `dataset.cleaning` than the first two. `bad` ones
    break a rule, and are among those that `dataset.maxBadRows` allows, replay rows included.
    """

    duplicates: int
    empty: int
    overlong: int
    in_validation: int
    cleaned: int
    bad: int

    def as_json(self) -> dict[str, JsonValue]:
        """The counts as they stand in card and facts."""
        return {
            "duplicates": self.duplicates,
            "empty": self.empty,
            "overlong": self.overlong,
            "inValidation": self.in_validation,
            "cleaned": self.cleaned,
            "bad": self.bad,
        }


def count_removed(
    data: LoadedData, splits: Splits, *, findings: Iterable[Finding], num_overlong: int
) -> RemovedRows:
    """Everything that was left out of both sources; `findings` are those of cleaning."""
    by_rule = Counter(found.rule for found in findings if found.action == "removed")
    duplicates, empty = by_rule.pop("exactDuplicates", 0), by_rule.pop("emptyRows", 0)
    return RemovedRows(
        duplicates=duplicates,
        empty=empty,
        cleaned=by_rule.total(),
        overlong=num_overlong,
        in_validation=splits.num_leaked,
        bad=len(data.problems.bad_rows),
    )


def data_card(
    data: LoadedData,
    splits: Splits,
    *,
    dataset: Dataset,
    num_kept: int,
    removed: RemovedRows,
    findings: Iterable[Finding],
    tokens: Mapping[Split, TokenRows],
    rejected: Mapping[Split, TokenRows],
    warnings: Sequence[str],
) -> dict[str, JsonValue]:
    """The card as JSON; lengths are in tokens, and both sides of a preference have one.

    `num_kept` rows are left of what was read; what remedies made of them is in `splits`.
    """
    sides = (*tokens.values(), *rejected.values())
    lengths = np.concatenate([rows.lengths for rows in sides])
    return {
        "sources": [
            {
                "split": split,
                "uri": source.uri,
                "file": file.label,
                "digest": file.digest,
                "bytes": file.num_bytes,
            }
            for split, source in data.sources.items()
            for file in source.files
        ],
        "format": data.format,
        "columns": dict(dataset.columns),
        "rows": {
            "read": data.num_read,
            "kept": num_kept,
            "removed": removed.as_json(),
        },
        # Rows by rule of dataset.cleaning and by what was done; the audit file names each.
        "cleaning": cast("JsonValue", counted_by_rule(findings)),
        "rowsByGenerator": _by_generator(splits),
        "badRows": [{"source": row.source, "rule": row.rule} for row in data.problems.bad_rows],
        "joinedTurns": data.num_joined_turns,
        "split": {
            "seed": dataset.seed,
            "validationFraction": None if dataset.validation else dataset.validation_fraction,
            **{split: _size(rows) for split, rows in tokens.items()},
        },
        **_rejected(rejected),
        # A length that a row has, never one between two rows.
        "tokensPerRow": {
            name: int(np.percentile(lengths, percent, method="higher"))
            for name, percent in _PERCENTILES.items()
        },
        "lengthHistogram": _histogram(lengths),
        **_shown(splits, count=dataset.card_rows),
        "warnings": list(warnings),
    }


def _shown(splits: Splits, *, count: int) -> dict[str, JsonValue]:
    """The rows that the manifest asks to be shown; no entry where it asks for none."""
    return {"sampleRows": [row.record.as_json() for row in splits.train[:count]]} if count else {}


def _by_generator(splits: Splits) -> dict[str, JsonValue]:
    kept = chain(splits.train, splits.validation)
    return dict(Counter[str](row.record.origin.generator for row in kept))


def _rejected(rows: Mapping[Split, TokenRows]) -> dict[str, JsonValue]:
    """The size of the rejected answers of preferences; no entry for any other rows."""
    return {"rejected": {split: _size(side) for split, side in rows.items()}} if rows else {}


def _size(rows: TokenRows) -> dict[str, JsonValue]:
    return {
        "rows": len(rows),
        "tokens": len(rows.input_ids),
        "targets": rows.num_targets,
        "targetShare": round(rows.num_targets / len(rows.input_ids), 4),
    }


def _histogram(lengths: NDArray[np.int64]) -> dict[str, JsonValue]:
    """Rows by length: bin n holds those of `start + n × width` tokens and up to the next bin."""
    shortest, longest = int(lengths.min()), int(lengths.max())
    widths = (digit * 10**zeros for zeros in count() for digit in (1, 2, 5))
    width = next(width for width in widths if longest // width - shortest // width < _MOST_BINS)
    first = shortest // width
    counts = np.bincount(lengths // width - first)
    return {"start": first * width, "width": width, "counts": counts.tolist()}


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A decoded row; `trained` are spans of characters, start and end, in ascending order."""

    text: str
    trained: tuple[tuple[int, int], ...]

    def as_json(self) -> dict[str, JsonValue]:
        """The sample as it stands beside the data."""
        return {"text": self.text, "trained": [[start, end] for start, end in self.trained]}

    def marked(self) -> str:
        """The text with the trained parts in brackets."""
        pieces, at = [], 0
        for start, end in self.trained:
            pieces += [self.text[at:start], _OPEN, self.text[start:end], _CLOSE]
            at = end
        return "".join([*pieces, self.text[at:]])


def sample_row(tokens: TokenRow, tokenizer: "PreTrainedTokenizerBase") -> SampleRow:
    """Decode a row; of a long one, the first characters."""

    # NB: from the start, however long: a token's own text depends on those before it (a leading
    # space, the bytes of one character), so that lengths of pieces do not add up.
    def length(end: int) -> int:
        """Characters of the first `end` tokens."""
        return len(tokenizer.decode(list(tokens.ids[:end]), clean_up_tokenization_spaces=False))

    spans, at = [], 0
    for is_trained, run in groupby(tokens.trained):
        end = at + len(list(run))
        if is_trained:
            spans.append((length(at), length(end)))
        at = end
    text = tokenizer.decode(list(tokens.ids), clean_up_tokenization_spaces=False)[:_LONGEST_SAMPLE]
    shown = [(start, min(end, len(text))) for start, end in spans if start < len(text)]
    return SampleRow(text=text, trained=tuple(shown))


def markers_in(rows: Iterable[TokenRows], tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The special tokens that the rows hold, such as the marks around turns."""
    # Piece by piece: the tokens of a large split lie on disk.
    used = {
        int(token)
        for split in rows
        for begin in range(0, len(split.input_ids), _TOKENS_AT_A_TIME)
        for token in np.unique(split.input_ids[begin : begin + _TOKENS_AT_A_TIME])
    }
    added = tokenizer.added_tokens_decoder.items()
    return sorted(token.content for number, token in added if token.special and number in used)
