"""Rows on disk that behave like a list: a data set may be larger than memory.

Prepare reads, cleans, divides and tokenizes rows through it. They lie in a temporary file, pickled
in blocks, of which a reader holds one. The file has no name, so that nobody else can write what is
unpickled, and is gone with its last reader, however that ends. It lies where `TMPDIR` says.
"""

import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Final, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

# Enough to share what pickles say of types, few enough to take no memory.
_BLOCK_ROWS: Final = 256

Item = TypeVar("Item")


class _File:
    """A file that is closed with its last reader."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class StoredRows(Sequence[Item], Generic[Item]):
    """Rows of a file in the order of `places`; another choice of them shares the file."""

    def __init__(self, file: _File, offsets: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        self._file = file
        self._offsets = offsets
        self._places = places
        self._block: tuple[int, list[Item]] = (-1, [])

    @classmethod
    def of(cls, rows: Iterable[Item]) -> "StoredRows[Item]":
        """Write rows as they come; what is raised on the way leaves nothing behind."""
        offsets, block, number = [0], list[Item](), 0
        with tempfile.TemporaryFile() as file:
            for number, row in enumerate(rows, start=1):  # noqa: B007 - the last one counts
                block.append(row)
                if len(block) == _BLOCK_ROWS:
                    offsets.append(offsets[-1] + _write(file, block))
                    block = []
            offsets.append(offsets[-1] + _write(file, block))
            file.flush()
            return cls(_File(os.dup(file.fileno())), np.array(offsets), np.arange(number))

    def chosen(self, places: Sequence[int] | NDArray[np.int64]) -> "StoredRows[Item]":
        """The rows at these places, in this order."""
        chosen = np.asarray(places, np.int64)
        return StoredRows(self._file, self._offsets, self._places[chosen])

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Item]:
        # A block of its own, so that two may read at once.
        number, block = -1, list[Item]()
        for place in self._places:
            wanted, inside = divmod(int(place), _BLOCK_ROWS)
            if wanted != number:
                number, block = wanted, self._read(wanted)
            yield block[inside]

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredRows[Item]": ...
    def __getitem__(self, index: int | slice) -> "Item | StoredRows[Item]":
        if isinstance(index, slice):
            return StoredRows(self._file, self._offsets, self._places[index])
        wanted, inside = divmod(int(self._places[index]), _BLOCK_ROWS)
        if self._block[0] != wanted:
            self._block = (wanted, self._read(wanted))
        return self._block[1][inside]

    def _read(self, block: int) -> list[Item]:
        begin, end = int(self._offsets[block]), int(self._offsets[block + 1])
        rows: list[Item] = pickle.loads(os.pread(self._file.number, end - begin, begin))  # noqa: S301
        return rows


def _write(file: IO[bytes], block: list[Item]) -> int:
    return file.write(pickle.dumps(block, pickle.HIGHEST_PROTOCOL))
