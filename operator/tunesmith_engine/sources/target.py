"""What every kind of publish target does: take a version whole, or leave no trace of it.

`local_target.py` and `object_target.py` are the two kinds, `resolver.py` opens the one of a URI.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.version_manifest import VersionManifest

# Called with what is done, and how many of how many files.
ProgressCallback = Callable[[str, int, int], None]


class Target(Protocol):
    """A folder of versions at some place."""

    def uri_of(self, name: str) -> str:
        """Where the version called `name` lies."""

    def require_writable(self) -> None:
        """Return if versions can be written here, as far as trying it now can tell.

        Raises:
            SourceError: PublishFailed, they cannot; or SourceUnreachable.
        """

    def deliver(
        self, folder: Path, name: str, *, manifest: VersionManifest, progress: ProgressCallback
    ) -> bool:
        """Bring the files of `manifest` from `folder` to the version `name`, and prove them there.

        Return False where the version was there already with the same content.

        Raises:
            SourceError: OutputConflict, PublishFailed, or SourceUnreachable; then the version is
                not at the target.
            OSError: the target's disk is full.
        """


def conflict(uri: str, *, because: str) -> SourceError:
    """The place of the version is taken."""
    return SourceError(
        Reason.OUTPUT_CONFLICT,
        f"{uri} {because}; versions are never overwritten. Choose another spec.output.version or "
        "spec.output.uri.",
    )


def not_written(uri: str, *, because: str) -> SourceError:
    """The version could not be written whole."""
    return SourceError(
        Reason.PUBLISH_FAILED,
        f"{uri} could not be published: {because}. Check the target's space and rights.",
    )


def not_writable(uri: str, *, because: str) -> SourceError:
    """No version could be written there, found out before there is one."""
    return SourceError(
        Reason.PUBLISH_FAILED,
        f"output.uri: {uri} cannot be written ({because}); name a folder that can, or let the "
        "account that runs the job write there.",
    )


def damaged(uri: str, *, because: str) -> SourceError:
    """The version was published before, and is no longer what it was."""
    return SourceError(
        Reason.PUBLISH_FAILED,
        f"{uri} was published before and has changed since: {because}. Remove it, or choose "
        "another spec.output.version.",
    )
