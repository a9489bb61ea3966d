"""Fields that somebody has given, and that the definitions installed now have dropped.

The server drops such a value from what it hands out and, with the next write of anybody, from what
it stores. What was applied is noted beside it: by the server, who keeps its notes on the fields of
an apply when it drops a value, and by kubectl, which keeps the manifest of a client-side one. Of an
object that was created in other ways nobody can tell what was given from what the server filled in.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tunesmith_operator.kube.objects import Manifest

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def lost_fields(manifest: Manifest) -> Iterator[str]:
    """Paths below `spec` that somebody has applied, and that are not there."""
    metadata, spec = manifest["metadata"], manifest.get("spec")
    for entry in metadata.get("managedFields") or []:
        # NB: whoever creates or updates is noted as the manager of all defaults, too.
        if entry.get("operation") == "Apply":
            owned = (entry.get("fieldsV1") or {}).get("f:spec") or {}
            yield from _absent(_fields(owned), spec, path="spec")
    yield from _absent(_last_applied(metadata), spec, path="spec")


def _fields(owned: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without the marks of the server's notes.

    Items of lists have other marks. Lists of ours are atomic, so there are none.
    """
    marked = "f:"
    return {
        mark.removeprefix(marked): _fields(below)
        for mark, below in owned.items()
        if mark.startswith(marked)
    }


def _last_applied(metadata: Manifest) -> Any:
    text = (metadata.get("annotations") or {}).get(_LAST_APPLIED, "{}")
    try:
        applied = json.loads(text)
    except ValueError:
        return None
    return applied.get("spec") if isinstance(applied, dict) else None


def _absent(given: Any, stored: Any, *, path: str) -> Iterator[str]:
    if not isinstance(given, dict) or not isinstance(stored, dict):
        return
    for name, below in given.items():
        # What is null was not given.
        if below is None:
            continue
        if name not in stored:
            yield f"{path}.{name}"
        else:
            yield from _absent(below, stored[name], path=f"{path}.{name}")
