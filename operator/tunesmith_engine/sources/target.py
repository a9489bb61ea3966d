"""What every kind of target does: take a version whole, or leave no trace of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tunesmith_engine.sources.version_manifest import VersionManifest

# Called with what is done, and how many of how many files.
Say = Callable[[str, int, int], None]


class Target(Protocol):
    """A folder of versions at some place."""

    def uri_of(self, name: str) -> str:
        """Where the version called `name` lies."""

    def deliver(self, folder: Path, name: str, *, manifest: VersionManifest, say: Say) -> bool:
        """Bring the files of `manifest` from `folder` to the version `name`, and prove them there.

        Return False where the version was there already with the same content.

        Raises:
            SourceError: OutputConflict, PublishFailed, or SourceUnreachable; then the version is
                not at the target.
            OSError: the target's disk is full.
        """
