"""What the log says of a look at a job that has failed and is repeated."""

import logging
from typing import Final

from aiohttp import ClientError
from kubernetes.aio.client.exceptions import ApiException

from tunesmith_operator.kube.client import CONFLICT

_LOG = logging.getLogger(__name__)

_TOO_MANY: Final = 429
_FIRST_FAULT: Final = 500


def log_failure(error: Exception, *, job: str, delay_s: float) -> None:
    """Log it: in one line where the API server is to blame, and else with where it came from.

    That somebody else was first, which every controller meets, is not worth a line.
    """
    if isinstance(error, ApiException) and error.status == CONFLICT:
        return
    if is_outage(error):
        said = " ".join(str(error).split()) or "no answer in time"
        _LOG.warning(
            "%s is looked at again in %.1f s: %s: %.300s", job, delay_s, type(error).__name__, said
        )
        return
    _LOG.error("%s is looked at again in %.1f s", job, delay_s, exc_info=error)


def is_outage(error: Exception) -> bool:
    """Whether the API server was not there, or not in a state to answer."""
    if isinstance(error, ApiException):
        status = error.status or 0
        return status == _TOO_MANY or status >= _FIRST_FAULT
    return isinstance(error, ClientError | OSError | TimeoutError)
