"""What it means that the API server forbids a request: a right that is missing, a quota, a policy.

Pure functions from the server's answer to words for the status of the job.
"""

import json
import re
from typing import Any, Final

from kubernetes.aio.client.exceptions import ApiException

FORBIDDEN: Final = 403

_MISSING_RIGHT: Final = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
)


def is_going_away(error: ApiException) -> bool:
    """Whether nothing can be made because the namespace is being deleted, and the job with it."""
    causes = _answer(error).get("details", {}).get("causes") or []
    return any(each.get("reason") == "NamespaceTerminating" for each in causes)


def denial(error: ApiException) -> str:
    """Who forbids what, and what to do about it."""
    said = str(_answer(error).get("message", "")) or str(error.reason)
    missing = _MISSING_RIGHT.search(said)
    if missing is None:
        return f"the API server refuses what the operator makes for this job; mend that: {said}"
    resource = ".".join(part for part in (missing["resource"], missing["group"]) if part)
    return (
        f"the operator may not {missing['verb']} {resource} here; "
        "give it that right again: the roles and bindings of its chart have it"
    )


def _answer(error: ApiException) -> dict[str, Any]:
    """The Status object in the server's answer; empty if there is none."""
    _, brace, rest = str(error.reason).partition("{")
    try:
        found = json.loads(brace + rest)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
