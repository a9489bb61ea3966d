"""Objects as the API server writes them, plain dicts, and what every reader asks of one.

What client-go does with `unstructured` and `meta/v1`: conditions, owners, labels, times.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

Manifest = dict[str, Any]

# The label of everything that this operator makes; what it watches of others' kinds bears it.
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "tunesmith-operator"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"


def label_of(manifest: Manifest, label: str) -> str | None:
    """The value of a label, None without it."""
    # The server leaves empty maps out, and other clients write `labels: null`.
    value: str | None = (manifest["metadata"].get("labels") or {}).get(label)
    return value


def status_of(manifest: Manifest) -> Manifest:
    """What its controller has written; empty before that."""
    status: Manifest = manifest.get("status") or {}
    return status


def condition_of(manifest: Manifest, type_: str) -> Manifest | None:
    """The object's condition of this type."""
    conditions: list[Manifest] = status_of(manifest).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == type_), None)


def has_condition(manifest: Manifest, type_: str) -> bool:
    """Whether the object has this condition with status True."""
    condition = condition_of(manifest, type_)
    return condition is not None and condition["status"] == "True"


def true_since(manifest: Manifest, type_: str) -> datetime | None:
    """Since when the object has this condition with status True."""
    condition = condition_of(manifest, type_)
    if condition is None or condition["status"] != "True":
        return None
    return time_of(condition["lastTransitionTime"])


def owners_of(manifest: Manifest) -> set[str]:
    """The uids of those that the object goes with."""
    return {owner["uid"] for owner in manifest["metadata"].get("ownerReferences") or []}


def is_deleting(manifest: Manifest) -> bool:
    """Whether it is on its way out: finalizers, or what it owns, keep it for a while."""
    return "deletionTimestamp" in manifest["metadata"]


def created_at(manifest: Manifest) -> datetime:
    """When the object was made."""
    return time_of(manifest["metadata"]["creationTimestamp"])


def time_of(text: str) -> datetime:
    """A time as the API server writes it, in UTC."""
    return datetime.fromisoformat(text)


def quoted(message: str, *, at_most: int) -> str:
    """The words of others, on one line and of so many characters at most."""
    text = " ".join(message.split()).rstrip(".")
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `after` of `before`.

    Lists are replaced whole, and no value of `after` may be None.
    """
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
