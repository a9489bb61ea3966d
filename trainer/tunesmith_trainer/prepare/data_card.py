"""The data card: where the rows came from, what was left out and why, and what they are like."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_trainer.data.prepared import Split
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.prepare.loading import Gathered
from tunesmith_trainer.prepare.splits import DEFAULT_FRACTION, Sides

_SAMPLE_ROWS: Final = 3
_MOST_BINS: Final = 24
_PERCENTILES: Final[Mapping[str, int]] = {"min": 0, "p50": 50, "p90": 90, "p99": 99, "max": 100}


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows that were left out, by cause; `in_validation`: training rows that are held out, too."""

    duplicates: int
    empty: int
    overlong: int
    in_validation: int

    def as_json(self) -> dict[str, JsonValue]:
        """The counts as they stand in card and facts."""
        return {
            "duplicates": self.duplicates,
            "empty": self.empty,
            "overlong": self.overlong,
            "inValidation": self.in_validation,
        }


def count_removed(gathered: Gathered, sides: Sides, *, num_overlong: int) -> Removed:
    """Everything that was left out of both sources."""
    return Removed(
        duplicates=sum(side.num_duplicates for side in gathered.sides.values()),
        empty=sum(side.num_empty for side in gathered.sides.values()),
        overlong=num_overlong,
        in_validation=sides.num_leaked,
    )


def data_card(
    gathered: Gathered,
    sides: Sides,
    *,
    dataset: Dataset,
    removed: Removed,
    tokens: Mapping[Split, TokenRows],
    warnings: Sequence[str],
) -> dict[str, JsonValue]:
    """The card as JSON; lengths are in tokens."""
    lengths = np.concatenate([rows.lengths for rows in tokens.values()])
    return {
        "sources": _sources(gathered),
        "format": gathered.format,
        "columns": dict(dataset.columns),
        "rows": {
            "read": sum(side.num_read for side in gathered.sides.values()),
            "kept": sum(len(rows) for rows in tokens.values()),
            "removed": removed.as_json(),
        },
        "split": {
            "seed": dataset.seed,
            "validationFraction": None
            if dataset.validation
            else dataset.validation_fraction or DEFAULT_FRACTION,
            **{split: _size(rows) for split, rows in tokens.items()},
        },
        "tokensPerRow": _percentiles(lengths),
        "lengthHistogram": _histogram(lengths),
        "sampleRows": [asdict(each.record) for each in sides.train[:_SAMPLE_ROWS]],
        "warnings": list(warnings),
    }


def _sources(gathered: Gathered) -> list[JsonValue]:
    return [
        {
            "split": split,
            "uri": side.uri,
            "file": file.label,
            "digest": file.digest,
            "bytes": file.num_bytes,
        }
        for split, side in gathered.sides.items()
        for file in side.files
    ]


def _size(rows: TokenRows) -> dict[str, JsonValue]:
    return {
        "rows": len(rows),
        "tokens": len(rows.input_ids),
        "targets": rows.num_targets,
        "targetShare": round(rows.num_targets / len(rows.input_ids), 4),
    }


def _percentiles(lengths: NDArray[np.int64]) -> dict[str, JsonValue]:
    # A length that a row has, never one between two rows.
    return {
        name: int(np.percentile(lengths, part, method="higher"))
        for name, part in _PERCENTILES.items()
    }


def _histogram(lengths: NDArray[np.int64]) -> dict[str, JsonValue]:
    """Rows by length: bin n holds those of `start + n × width` tokens and up to the next bin."""
    shortest, longest = int(lengths.min()), int(lengths.max())
    width = next(
        each for each in _round_widths() if longest // each - shortest // each < _MOST_BINS
    )
    first = shortest // width
    counts = np.bincount(lengths // width - first)
    return {"start": first * width, "width": width, "counts": counts.tolist()}


def _round_widths() -> Iterator[int]:
    """1, 2, 5, 10, 20 and so on."""
    return (digit * 10**zeros for zeros in count() for digit in (1, 2, 5))
