"""What it means that the API server refuses a request, and what to tell people about it."""

import json
import re
from typing import Any, Final

from aiohttp import ClientError
from kubernetes.aio.client.exceptions import ApiException

BAD_REQUEST: Final = 400
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
TOO_LARGE: Final = 413
UNPROCESSABLE: Final = 422
# A server that was restored from a copy knows nothing as new as what it told of before.
TOO_NEW_A_VERSION: Final = 504
# It says the same each time: of a field's value, of an object's size, of a policy.
_INVALID: Final = frozenset({BAD_REQUEST, TOO_LARGE, UNPROCESSABLE})
_TOO_MANY_REQUESTS: Final = 429
_FIRST_SERVER_ERROR: Final = 500

# For half a minute after it has started, a server does not find the definitions that hold the
# parameters of its admission policies, and answers as if the object were wrong.
_POLICY_NOT_READY: Final = "failed to configure policy"

_MISSING_RIGHT: Final = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
)

# What strict field validation says.
_UNKNOWN_FIELD: Final = re.compile(r'unknown field "(?P<field>[^"]+)"')
_RAY_API: Final = "/apis/ray.io/"


class ForeignObjectError(ApiException):
    """Somebody else's object has the name of one that is to be made; it is never taken over."""

    def __init__(self, kind: str, name: str) -> None:
        self.message = (
            f"{kind} {name} is there already and is somebody else's, so it is left alone: "
            "rename or delete it, or apply this under another name"
        )
        super().__init__(status=CONFLICT, reason=self.message)


def is_refusal(error: ApiException) -> bool:
    """Whether the server understood the request and will not do it, so that a person has to act."""
    known = isinstance(error, ForeignObjectError) or error.status in {FORBIDDEN, NOT_FOUND}
    return known or is_invalid(error)


def is_invalid(error: ApiException) -> bool:
    """Whether the server finds what was sent wrong in itself: no time mends that."""
    return error.status in _INVALID and _POLICY_NOT_READY not in str(error.reason)


def is_outage(error: Exception) -> bool:
    """Whether the API server was not there, or not in a state to answer."""
    if isinstance(error, ApiException):
        status = error.status or 0
        is_busy = status == _TOO_MANY_REQUESTS or status >= _FIRST_SERVER_ERROR
        return is_busy or _POLICY_NOT_READY in str(error.reason)
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
    if isinstance(error, ForeignObjectError):
        return error.message
    said = str(_status_object(error).get("message", "")) or str(error.reason)
    unknown = _UNKNOWN_FIELD.findall(said)
    if unknown:
        return _old_definitions_message(str(error.reason), unknown, subject=subject)
    missing = _MISSING_RIGHT.search(said)
    if missing is None:
        return f"the API server refuses what the operator makes for {subject}; mend that: {said}"
    resource = ".".join(part for part in (missing["resource"], missing["group"]) if part)
    return (
        f"the operator may not {missing['verb']} {resource} here; "
        "give it that right again: the roles and bindings of its chart have it"
    )


def _old_definitions_message(request: str, fields: list[str], *, subject: str) -> str:
    names = ", ".join(fields)
    if _RAY_API in request:
        # Without authOptions whoever reaches the head would run code as the stage.
        return (
            f"the definitions of this cluster's KubeRay have no {names}, which {subject} needs; "
            "upgrade KubeRay to 1.5.1 or later, with its definitions, or take workers: 1"
        )
    return (
        f"this cluster does not know the field {names}, which {subject} needs; upgrade Kubernetes "
        "or the definitions that lack it"
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
