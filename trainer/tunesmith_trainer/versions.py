"""The versions of libraries that stood behind a result, for `StageResult.versions`."""

from importlib.metadata import PackageNotFoundError, version


def library_versions(*names: str) -> dict[str, str]:
    """The version of each of these distributions that this environment has."""
    versions = {}
    for name in names:
        # One list serves every environment of a stage; the compressor's has no Ray, for instance.
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
