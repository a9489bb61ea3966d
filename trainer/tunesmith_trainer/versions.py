"""The versions of libraries that stood behind a result, for `StageResult.versions`."""

from importlib.metadata import PackageNotFoundError, version


def library_versions(*names: str) -> dict[str, str]:
    """The version of each of these distributions that this environment has."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
