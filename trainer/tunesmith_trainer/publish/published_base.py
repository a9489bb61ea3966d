"""The base of an adapter, once it is at its target."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishedBase:
    """Where it lies, and what proves it."""

    uri: str
    digest: str
    num_bytes: int
