"""JSON merge patches (RFC 7386) as a server applies them."""

from copy import deepcopy
from typing import Any


def merged(before: Any, patch: Any) -> Any:
    """What a server makes of a JSON merge patch."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    known = before if isinstance(before, dict) else {}
    kept = {name: value for name, value in known.items() if name not in patch}
    given = {name: value for name, value in patch.items() if value is not None}
    return kept | {name: merged(known.get(name), value) for name, value in given.items()}
