"""Tokenized rows with their loss masks, stored flat: written by prepare, read by every later stage.

One file of safetensors holds a split. Rows lie one after another without padding, so that reading
a row is a slice and the size of the file is the size of the data. The `dataloader` of train pads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Ids = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows of tokens.

    Attributes:
        input_ids: all tokens, row after row; shape (num_tokens,).
        trained: the loss mask: whether a token is a target, predicted from those before it in its
            row; shape (num_tokens,). Never true for the first token of a row.
        offsets: where each row starts, and the end of the last; shape (num_rows + 1,).
    """

    input_ids: Ids
    trained: Mask
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[tuple[Sequence[int], Sequence[bool]]]) -> "TokenRows":
        """Pack rows of (token ids, loss mask), both of one row's length."""
        listed = list(rows)
        lengths = [len(ids) for ids, _ in listed]
        return cls(
            input_ids=np.array([token for ids, _ in listed for token in ids], dtype=np.int32),
            trained=np.array([flag for _, mask in listed for flag in mask], dtype=np.bool_),
            offsets=np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))),
        )

    @classmethod
    def load(cls, path: Path) -> "TokenRows":
        """Read what `save` wrote.

        Raises:
            OSError: there is no such file.
            safetensors.SafetensorError: it is no safetensors file, or a damaged one.
        """
        arrays = load_file(path)
        return cls(
            input_ids=arrays["input_ids"],
            trained=arrays["trained"].astype(np.bool_),
            offsets=arrays["offsets"],
        )

    def save(self, path: Path) -> None:
        """Write the rows as safetensors; a reader sees the old file or the new one."""
        temporary = path.with_name(f".{path.name}.part")
        save_file(
            {
                "input_ids": self.input_ids,
                "trained": self.trained.astype(np.uint8),
                "offsets": self.offsets,
            },
            temporary,
        )
        temporary.replace(path)

    def followed_by(self, others: "TokenRows") -> "TokenRows":
        """These rows, and behind them `others`."""
        return TokenRows(
            input_ids=np.concatenate((self.input_ids, others.input_ids)),
            trained=np.concatenate((self.trained, others.trained)),
            offsets=np.concatenate((self.offsets, self.offsets[-1] + others.offsets[1:])),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int) -> tuple[Ids, Mask]:
        """Token ids and loss mask of one row, without copying.

        Raises:
            IndexError: there is no such row.
        """
        # Negative numbers are refused, too: offsets[-1] is the end of the data, not a row.
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        start, end = self.offsets[index], self.offsets[index + 1]
        return self.input_ids[start:end], self.trained[start:end]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row; shape (num_rows,)."""
        return np.diff(self.offsets)

    @property
    def num_targets(self) -> int:
        """Tokens that are trained, over all rows."""
        return int(np.count_nonzero(self.trained))
