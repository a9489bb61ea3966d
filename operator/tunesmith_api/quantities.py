"""Sizes as Kubernetes writes them, in bytes."""

from typing import Final

_UNITS: Final = {
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}


def num_bytes(size: str) -> int:
    """The bytes of a `field_types.Bytes`, such as 512Mi."""
    number = size.rstrip("MGTi")
    return int(number) * _UNITS[size.removeprefix(number)]
