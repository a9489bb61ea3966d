"""Arrays of numbers as a short text, for states that lie in JSON."""

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tunesmith_engine.drift.events import Floats

# What any state of ours unpacks to, several times.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Form:
    """How an array is stored."""

    shape: tuple[int, ...]
    dtype: str


def pack(arrays: Mapping[str, Floats], forms: Mapping[str, Form]) -> str:
    """The arrays, one after the other."""
    raw = b"".join(arrays[name].astype(form.dtype).tobytes() for name, form in forms.items())
    return base64.b64encode(zlib.compress(raw, level=6)).decode()


def unpack(text: str, forms: Mapping[str, Form]) -> dict[str, Floats]:
    """The arrays again.

    Raises:
        ValueError: it is no such text, or of other forms.
    """
    try:
        reader = zlib.decompressobj()
        raw = reader.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"it is no packed state: {error}") from error
    arrays, start = {}, 0
    for name, form in forms.items():
        stop = start + int(np.prod(form.shape)) * np.dtype(form.dtype).itemsize
        values = np.frombuffer(raw[start:stop], dtype=form.dtype).astype(np.float64)
        # Raises ValueError, too, where there is too little.
        arrays[name] = values.reshape(form.shape)
        start = stop
    if start != len(raw) or not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("it is a state of another form")
    return arrays
