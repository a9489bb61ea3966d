"""Whose request it is, as a digest that nobody can turn back.

Requests of one conversation are alike, and a judge that took them for independent is too sure.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable
from typing import Final

# The conversation first, which is narrower than its key. A route sticks to the same headers.
HEADERS: Final = (b"x-conversation-id", b"authorization", b"x-api-key")
# Replicas of one deployment may share a salt, so that a conversation is the same on all of them.
SALT_VARIABLE: Final = "TUNESMITH_CLUSTER_SALT"
_DIGEST_BYTES: Final = 8


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
