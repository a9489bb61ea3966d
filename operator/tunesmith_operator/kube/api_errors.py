"""What it means that the API server refuses a request, and what to tell people about it."""

import json
import re
from typing import Any, Final

from aiohttp import ClientError
from kubernetes.aio.client.exceptions import ApiException

FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
UNPROCESSABLE: Final = 422
# A server that was restored from a copy knows nothing as new as what it told of before.
TOO_NEW_A_VERSION: Final = 504
_TOO_MANY_REQUESTS: Final = 429
_FIRST_SERVER_ERROR: Final = 500

_MISSING_RIGHT: Final = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
)


def is_outage(error: Exception) -> bool:
    """Whether the API server was not there, or not in a state to answer."""
    if isinstance(error, ApiException):
        status = error.status or 0
        return status == _TOO_MANY_REQUESTS or status >= _FIRST_SERVER_ERROR
    # A connection that is refused or reset comes as either of the two, by when it happens.
    return isinstance(error, ClientError | OSError | TimeoutError)


def is_already_there(error: ApiException) -> bool:
    """Whether a creation was refused since an object of that name exists."""
    # NB: a quota that somebody else changed is a 409, too, and then nothing was created.
    return error.status == CONFLICT and "AlreadyExists" in str(error.reason)


def is_namespace_terminating(error: ApiException) -> bool:
    """Whether nothing can be made because the namespace is being deleted, and all in it."""
    causes = _status_object(error).get("details", {}).get("causes") or []
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def refusal_message(error: ApiException, *, subject: str) -> str:
    """Who forbids what is made for `subject`, and what to do about it.

    A right that is missing, a quota and an admission policy all come as 403.
    """
    said = str(_status_object(error).get("message", "")) or str(error.reason)
    missing = _MISSING_RIGHT.search(said)
    if missing is None:
        return f"the API server refuses what the operator makes for {subject}; mend that: {said}"
    resource = ".".join(part for part in (missing["resource"], missing["group"]) if part)
    return (
        f"the operator may not {missing['verb']} {resource} here; "
        "give it that right again: the roles and bindings of its chart have it"
    )


def _status_object(error: ApiException) -> dict[str, Any]:
    """The Status object in the server's answer; empty if there is none."""
    # `client.py` puts method and path before it, and a proxy may have answered in its own words.
    _, brace, rest = str(error.reason).partition("{")
    try:
        answer = json.loads(brace + rest)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
