"""The header of a GGUF file: its fields, and the names and sizes of its tensors.

Read without mapping a weight and without a library: the control plane looks at models in
milliseconds. The format is ggml's, docs/gguf.md of its repository, versions 2 and 3.
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

GgufValue = int | float | bool | str | None

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_STRING: Final = 8
_ARRAY: Final = 9
# Format characters of struct, by the number of the type.
_NUMBERS: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip

# More than any model has: a damaged or hostile file ends here and not in memory.
_MAX_COUNT: Final = 1 << 24
_MAX_STRING: Final = 1 << 24
_MAX_DIMENSIONS: Final = 8


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """`fields` has None for an array, whose length is in `lengths`; `tensors` counts elements."""

    fields: dict[str, GgufValue]
    lengths: dict[str, int]
    tensors: dict[str, int]

    def number(self, name: str) -> int:
        """The whole number in the field `name`.

        Raises:
            ValueError: the header has no such number.
        """
        value = self.fields.get(name)
        # A bool is an int to Python, and no number of layers.
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"its header has no number {name}")  # noqa: TRY004 - of a file, not of a program
        return value


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of the GGUF file at `path`.

    Raises:
        ValueError: it is no GGUF file of a known version, or it is cut short.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        reader = _Reader(file)
        if file.read(4) != _MAGIC:
            raise ValueError("it does not start with GGUF")
        version = reader.number("I")
        if version not in _VERSIONS:
            raise ValueError(f"its GGUF version is {version}, known are 2 and 3")
        # The counts come first, the fields before the tensors: nothing can be skipped over.
        num_tensors, num_fields = reader.count(), reader.count()
        header = GgufHeader(fields={}, lengths={}, tensors={})
        for _ in range(num_fields):
            name, kind = reader.text(), reader.number("I")
            if kind == _ARRAY:
                header.fields[name], header.lengths[name] = None, reader.skip_array()
            else:
                header.fields[name] = reader.value(kind)
        header.tensors.update(reader.tensor() for _ in range(num_tensors))
    return header


class _Reader:
    """The little-endian values of the format, one after another."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def take(self, num_bytes: int) -> bytes:
        # Bounded by the limits above: a file may claim any length and hold a few bytes.
        data = self._file.read(num_bytes)
        if len(data) != num_bytes:
            raise ValueError("its header is cut short")
        return data

    def number(self, form: str) -> int:
        (value,) = struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))
        return int(value)

    def count(self) -> int:
        value = self.number("Q")
        if value > _MAX_COUNT:
            raise ValueError(f"its header counts {value} entries")
        return value

    def text(self) -> str:
        # The format says UTF-8; a file that breaks it can still be measured.
        return self._bytes().decode("utf-8", errors="replace")

    def value(self, kind: int) -> GgufValue:
        if kind == _STRING:
            return self.text()
        form = _form(kind)
        value: GgufValue
        (value,) = struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))
        return value

    def skip_array(self) -> int:
        """Step over an array and return its length; one of arrays is of unknown type."""
        kind, length = self.number("I"), self.count()
        if kind == _STRING:
            for _ in range(length):
                self._bytes()
        else:
            self.take(length * struct.calcsize(f"<{_form(kind)}"))
        return length

    def tensor(self) -> tuple[str, int]:
        """The name of a tensor and the number of its elements."""
        name, dimensions = self.text(), self.number("I")
        if dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"its tensor {name} has {dimensions} dimensions")
        shape = [self.number("Q") for _ in range(dimensions)]
        # Type and offset of its bytes: sizes are estimated from counts, whatever the quantization.
        self.take(struct.calcsize("<IQ"))
        return name, prod(shape)

    def _bytes(self) -> bytes:
        length = self.number("Q")
        if length > _MAX_STRING:
            raise ValueError(f"its header holds a text of {length} bytes")
        return self.take(length)


def _form(kind: int) -> str:
    if kind not in _NUMBERS:
        raise ValueError(f"its header has a value of unknown type {kind}")
    return _NUMBERS[kind]
