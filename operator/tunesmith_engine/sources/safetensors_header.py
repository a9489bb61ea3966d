"""The header of a safetensors file, read and checked without reading a weight.

The format: eight bytes with the length of a JSON object, little-endian, the object, the tensors'
bytes. `model_formats.py` checks a model by it, `model_facts.py` counts its parameters.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from tunesmith_api.base import ApiModel
from tunesmith_api.json_io import read_json

# The limit of the format's own reader: a damaged or hostile length ends here and not in memory.
_MAX_HEADER_BYTES: Final = 100_000_000
_LENGTH_BYTES: Final = 8


_MAX_DIMENSIONS: Final = 16
_Size = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Tensor(ApiModel):
    dtype: str
    # NB: without bounds a product of millions of numbers takes hours.
    shape: Annotated[list[_Size], Field(max_length=_MAX_DIMENSIONS)]
    data_offsets: tuple[_Size, _Size]


_TENSORS: Final = TypeAdapter(dict[str, _Tensor])


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """A tensor's type as the file names it, and the number of its elements."""

    dtype: str
    num_elements: int


def read_safetensors_header(path: Path) -> dict[str, TensorHeader]:
    """The tensors in the file at `path`, by name.

    Raises:
        ValueError: the header is malformed, or the file is shorter or longer than it says.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not 0 < length <= min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            raise ValueError("it is no safetensors file, or is cut short")
        tensors = _parsed(file.read(length))
    # Too long counts as damaged, as too short does: the format's own reader refuses both, but only
    # when a stage loads the model.
    end = max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    if _LENGTH_BYTES + length + end != size:
        raise ValueError(f"it has {size} bytes, and its header says {_LENGTH_BYTES + length + end}")
    return {
        name: TensorHeader(dtype=tensor.dtype, num_elements=prod(tensor.shape))
        for name, tensor in tensors.items()
    }


def _parsed(text: bytes) -> dict[str, _Tensor]:
    try:
        given: Any = read_json(text)
        # Validated by field names, since those of the format are snake_case as the model's own.
        return _TENSORS.validate_python(
            {name: value for name, value in given.items() if name != "__metadata__"}
        )
    except (ValueError, AttributeError, ValidationError) as error:
        raise ValueError("its safetensors header is malformed") from error
