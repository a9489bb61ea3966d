"""How a source or a target says that it cannot be read or written, in the vocabulary of outcomes.

Libraries fail in dozens of ways; `translate_error` sorts their exceptions into four: not there, not
allowed, not reachable, and no space (an OSError that is passed on as it is). Stages turn a
`SourceError` into a `StageError` by `as_stage_error`.
"""

import errno
import os
from dataclasses import dataclass
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError, StageError, TransientError

_NOT_FOUND: Final = 404
_DENIED: Final = (401, 403)
_TOO_MANY: Final = 429
_SERVER_FAULT: Final = 500

# Names, so that no library is imported to ask whether it raised something.
_DENIED_NAMES: Final = frozenset(
    {"GatedRepoError", "NoCredentialsError", "PartialCredentialsError", "RefreshError"}
)
_MISSING_NAMES: Final = frozenset(
    {
        "RemoteEntryNotFoundError",
        "RepositoryNotFoundError",
        "RevisionNotFoundError",
        "HFValidationError",
    }
)
_UNREACHABLE_NAMES: Final = frozenset({"ClientConnectionError", "EndpointConnectionError"})
# Faults of this machine while it writes what comes from a source: a full disk, a quota, a disk that
# is read-only, no more descriptors. They say nothing about the source.
_LOCAL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE})


class SourceError(Exception):
    """A source cannot be read, or a target not be written.

    `message` says what was given, which rule it broke and what to do; it holds no credentials.
    """

    def __init__(self, reason: Reason, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Role:
    """What a URI is for: how it is called in messages, and the reasons of its failures."""

    name: str
    missing: Reason
    denied: Reason


MODEL: Final = Role("base model", Reason.BASE_MODEL_NOT_FOUND, Reason.MODEL_ACCESS_DENIED)
DATA: Final = Role("data", Reason.DATASET_NOT_FOUND, Reason.DATASET_NOT_FOUND)
TARGET: Final = Role("output", Reason.PUBLISH_FAILED, Reason.PUBLISH_FAILED)


def as_stage_error(error: SourceError) -> StageError:
    """The same failure in the words of a stage: retried only if a retry may mend it."""
    kind = TransientError if error.retryable else BadInputError
    return kind(error.reason, error.message)


def translate_error(error: Exception, *, uri: str, role: Role) -> Exception:
    """The exception to raise instead of a library's: a SourceError, or a full disk as it came."""
    causes: list[Exception] = []
    last: BaseException | None = error
    while isinstance(last, Exception):
        causes.append(last)
        last = last.__cause__ or last.__context__
    for cause in causes:
        # Said by us, below a library: it knows better than what the library made of it.
        if isinstance(cause, SourceError):
            return cause
        if isinstance(cause, OSError) and cause.errno in _LOCAL_ERRNOS:
            return cause
    # NB: the order matters. The hub answers 401 to a repository that does not exist as to one that
    # is private, and its client raises a "not found" for both.
    if any(_is_denied(cause) for cause in causes):
        return denied(uri, role=role)
    unreachable = next((cause for cause in causes if _is_unreachable(cause)), None)
    # fsspec calls every failure of a web server a missing file, and keeps the truth as its cause.
    if unreachable is None and any(_is_missing(cause) for cause in causes):
        return missing(uri, role=role)
    return _unreachable(unreachable or error, uri=uri)


def missing(uri: str, *, role: Role, hint: str = "check the address and the path") -> SourceError:
    """Nothing is at the URI."""
    return SourceError(role.missing, f"{role.name}: nothing was found at {uri}; {hint}.")


def denied(uri: str, *, role: Role) -> SourceError:
    """Something may be there, but not for these credentials."""
    return SourceError(
        role.denied,
        f"{role.name}: access to {uri} was denied; name credentials that may use it in secretRef"
        + (", and accept the model's licence on its hub." if role is MODEL else "."),
    )


def unusable_model(
    name: str, *, because: str, reason: Reason = Reason.BASE_MODEL_NOT_FOUND
) -> SourceError:
    """Something is there, and it is no model that this project loads."""
    return SourceError(
        reason,
        f"{name} cannot be used as a base model: {because}. Give a folder with config.json, "
        "*.safetensors and a tokenizer, or one .gguf file.",
    )


def _unreachable(error: Exception, *, uri: str) -> SourceError:
    # The words that huggingface_hub takes for true.
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    if is_offline and uri.startswith("hf://"):
        # Not retryable: it would be the same each time.
        return SourceError(
            Reason.SOURCE_UNREACHABLE,
            f"{uri} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset "
            "HF_HUB_OFFLINE, or use a file:// copy.",
        )
    # NB: the class alone. Texts of libraries quote requests, and with them signatures and tokens.
    return SourceError(
        Reason.SOURCE_UNREACHABLE,
        f"{uri} could not be reached ({type(error).__name__}); check the network and the address.",
        retryable=True,
    )


def _is_denied(error: Exception) -> bool:
    if isinstance(error, PermissionError) or _class_names(error) & _DENIED_NAMES:
        return True
    return _http_status(error) in _DENIED


def _is_unreachable(error: Exception) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if _class_names(error) & _UNREACHABLE_NAMES:
        return True
    status = _http_status(error)
    return status is not None and (status == _TOO_MANY or status >= _SERVER_FAULT)


def _is_missing(error: Exception) -> bool:
    names = _class_names(error)
    if names & _MISSING_NAMES or _http_status(error) == _NOT_FOUND:
        return True
    # A miss in the hub's local cache is a FileNotFoundError too, and says nothing about the hub.
    return isinstance(error, FileNotFoundError) and "LocalEntryNotFoundError" not in names


def _class_names(error: Exception) -> set[str]:
    return {base.__name__ for base in type(error).__mro__}


def _http_status(error: Exception) -> int | None:
    """The HTTP status that an exception of aiohttp, httpx, gcsfs or botocore carries."""
    response = getattr(error, "response", None)
    # botocore's is a dict; httpx's has `status_code`, aiohttp keeps `status`, gcsfs `code`.
    if isinstance(response, dict):
        value = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return value if isinstance(value, int) else None
    for holder, name in ((error, "status"), (response, "status_code"), (error, "code")):
        value = getattr(holder, name, None)
        if isinstance(value, int):
            return value
    return None
