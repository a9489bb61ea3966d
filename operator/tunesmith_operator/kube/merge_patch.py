"""From two states of an object to the JSON merge patch (RFC 7386) that makes one of the other."""

from collections.abc import Mapping
from typing import Any


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be sent; lists are replaced whole, and no value of `after` may be None."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        known = before.get(name)
        if isinstance(value, dict) and isinstance(known, dict):
            inner = merge_patch(known, value)
            if inner:
                patch[name] = inner
        elif value != known:
            patch[name] = value
    return patch
