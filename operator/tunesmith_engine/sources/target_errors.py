"""The failures that all kinds of targets share."""

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError


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


def damaged(uri: str, *, because: str) -> SourceError:
    """The version was published before, and is no longer what it was."""
    return SourceError(
        Reason.PUBLISH_FAILED,
        f"{uri} was published before and has changed since: {because}. Remove it, or choose "
        "another spec.output.version.",
    )
