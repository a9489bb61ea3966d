"""Tokenized rows with their loss masks, stored flat: written by prepare, read by every later stage.

One file of safetensors holds a split. Rows lie one after another without padding, so that reading
a row is a slice and the size of the file is the size of the data. The `dataloader` of train pads.
"""

import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors import safe_open

# The format's own: the length of the header, and the types of its arrays.
_LENGTH_BYTES: Final = 8
_DTYPES: Final[dict[str, DTypeLike]] = {"I64": np.int64, "I32": np.int32, "U8": np.uint8}

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
        """Pack rows of (token ids, loss mask), both of one row's length.

        They are written to a nameless temporary file as they come, and mapped.
        """
        lengths = [0]
        with TemporaryFile() as tokens, TemporaryFile() as mask:
            for ids, trained in rows:
                lengths.append(len(ids))
                tokens.write(array("i", ids).tobytes())
                mask.write(bytes(trained))
            return cls(
                input_ids=_mapped(tokens, np.dtype(np.int32), sum(lengths)),
                trained=_mapped(mask, np.dtype(np.bool_), sum(lengths)),
                offsets=np.cumsum(lengths, dtype=np.int64),
            )

    @classmethod
    def load(cls, path: Path) -> "TokenRows":
        """Map what `save` wrote: what is never looked at takes no memory.

        Raises:
            OSError: there is no such file.
            safetensors.SafetensorError: it is no safetensors file, or a damaged one.
        """
        # It checks the header against the size of the file.
        with safe_open(path, framework="numpy"), path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            header = json.loads(file.read(length))
            arrays = {
                name: _mapped(
                    file,
                    np.dtype(_DTYPES[told["dtype"]]),
                    *told["shape"],
                    offset=_LENGTH_BYTES + length + told["data_offsets"][0],
                )
                for name, told in header.items()
            }
        return cls(
            input_ids=arrays["input_ids"],
            trained=arrays["trained"].view(np.bool_),
            offsets=arrays["offsets"],
        )

    def renumbered(self, numbers: NDArray[np.int32]) -> "TokenRows":
        """The same rows, each token `t` as `numbers[t]`."""
        return TokenRows(numbers[self.input_ids], self.trained, self.offsets)

    def followed_by(self, other: "TokenRows") -> "TokenRows":
        """These rows, and then those of `other`."""
        return TokenRows(
            input_ids=np.concatenate([self.input_ids, other.input_ids]),
            trained=np.concatenate([self.trained, other.trained]),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
        )

    def save(self, path: Path) -> None:
        """Write the rows as safetensors; a reader sees the old file or the new one."""
        temporary = path.with_name(f".{path.name}.part")
        # As safetensors has it, which would copy all arrays first: those of the widest type come
        # first, so that each is aligned.
        arrays: dict[str, tuple[str, NDArray[Any]]] = {
            "offsets": ("I64", self.offsets),
            "input_ids": ("I32", self.input_ids),
            "trained": ("U8", self.trained.view(np.uint8)),
        }
        header, at = {}, 0
        for name, (dtype, values) in arrays.items():
            places = [at, at := at + values.nbytes]
            header[name] = {"dtype": dtype, "shape": [len(values)], "data_offsets": places}
        told = json.dumps(header, separators=(",", ":")).encode()
        told += b" " * (-len(told) % _LENGTH_BYTES)
        with temporary.open("wb") as file:
            file.write(len(told).to_bytes(_LENGTH_BYTES, "little") + told)
            for _, values in arrays.values():
                file.write(np.ascontiguousarray(values).data)
        temporary.replace(path)

    def subset(self, rows: Sequence[int]) -> "TokenRows":
        """The rows with these numbers, in their order."""
        return TokenRows.of(
            (ids.tolist(), trained.tolist()) for ids, trained in map(self.row, rows)
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


def _mapped(file: IO[bytes], dtype: "np.dtype[Any]", size: int, *, offset: int = 0) -> NDArray[Any]:
    """An array in a file; as torch asks for, it may be written to, which leaves the file as is."""
    file.flush()
    if not size:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(file, dtype, "c", offset, (size,)))
