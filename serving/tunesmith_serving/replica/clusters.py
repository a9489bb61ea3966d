"""Whose request it is, as a digest that nobody can turn back.

Requests of one conversation are alike, and a judge that took them for independent is too sure.
Another replica's are nobody's: they bear a mark that only replicas with the same salt can make.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from typing import Final

from tunesmith_engine.deployment.request_identity import (
    API_KEY_HEADERS,
    CONVERSATION_HEADER,
    SALT_VARIABLE,
)

# The conversation first, which is narrower than its key.
HEADERS: Final = tuple(name.encode() for name in (CONVERSATION_HEADER, *API_KEY_HEADERS))
MARK_HEADER: Final = "x-tunesmith-comparison"
_MARK: Final = MARK_HEADER.encode()
_DIGEST_BYTES: Final = 8
_MARK_BYTES: Final = 32


def salt() -> bytes:
    """The salt of the environment, or one that ends with this process."""
    given = os.environ.get(SALT_VARIABLE, "").encode()
    # blake2b's keys have no more than 64 bytes.
    return hashlib.sha256(given).digest() if given else secrets.token_bytes(32)


def cluster_of(headers: Iterable[tuple[bytes, bytes]], *, salt: bytes) -> str | None:
    """A digest of the first of `HEADERS` that the request bears; None where it bears none."""
    values = {name: value for name, value in headers if name in HEADERS}
    for name in HEADERS:
        if value := values.get(name):
            return hashlib.blake2b(value, key=salt, digest_size=_DIGEST_BYTES).hexdigest()
    return None


def mark(*, salt: bytes) -> str:
    """What a replica's own question to another one bears in `MARK_HEADER`."""
    return hashlib.blake2b(_MARK, key=salt, digest_size=_MARK_BYTES).hexdigest()


def is_marked(headers: Iterable[tuple[bytes, bytes]], *, salt: bytes) -> bool:
    """Whether the request is another replica's; without a common salt it counts as a client's."""
    given = next((value for name, value in headers if name == _MARK), None)
    return given is not None and hmac.compare_digest(given, mark(salt=salt).encode())
