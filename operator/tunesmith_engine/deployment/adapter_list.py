"""Which adapters a replica of a shared base has to hold: what an executor tells it, and what for.

A replica is told all of them at once, again and again, so that it comes to the same after a restart
(`tunesmith_serving/replica/adapter_host.py`).
"""

from typing import Annotated, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.modeldeployment.status import MAX_DRAINING, RevisionName

# By which the proxy says to which revision it has given a request. It overwrites what clients send.
REVISION_HEADER: Final = "x-tunesmith-revision"
# Stable, candidate, and all that may be draining.
_MOST: Final = MAX_DRAINING + 2


class WantedAdapter(ApiModel):
    """A version whose adapter is to be loaded.

    `folder` is where the version's files lie for the replica, `digest` proves them. `is_routed`:
    the proxy gives it requests, so that a replica without it may not be given any.
    """

    revision: RevisionName
    version: str
    digest: str
    folder: str
    is_routed: bool = False


class AdapterList(ApiModel):
    """All of them; what is loaded and not named is unloaded."""

    adapters: Annotated[tuple[WantedAdapter, ...], Field(max_length=_MOST)] = ()
