"""The versions of libraries that stood behind a result, for `StageResult.versions`."""

from importlib.metadata import version


def library_versions(*names: str) -> dict[str, str]:
    """The installed version of each distribution.

    Raises:
        importlib.metadata.PackageNotFoundError: one is not installed.
    """
    return {name: version(name) for name in names}
