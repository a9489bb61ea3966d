"""Sources on this machine: file:// and python:// URIs become paths, without running anything.

A python:// resource is found through the import system's search, which reads folders; the package
itself is never imported.
"""

import importlib.util
from pathlib import Path

from tunesmith_api.uris import parse_uri
from tunesmith_engine.sources.errors import Role, SourceError, missing

LOCAL_SCHEMES = ("file", "python")


def is_local(uri: str) -> bool:
    """Whether the URI names something on this machine."""
    return uri.partition("://")[0] in LOCAL_SCHEMES


def local_matches(uri: str, *, base: Path, role: Role) -> list[Path]:
    """What a file:// or python:// URI names: one path, or everything that its pattern matches.

    Raises:
        SourceError: nothing is there, or the path leaves its package.
    """
    parsed = parse_uri(uri)
    if parsed.scheme == "file":
        found = _matches(base / Path(parsed.path).expanduser())
        hint = f"relative paths start at the manifest's folder, {base}"
    else:
        found = _in_package(uri, parsed.path, role=role)
        hint = "the package is installed but has no such file"
    if not found:
        raise missing(uri, role=role, hint=hint)
    return found


def _in_package(uri: str, path: str, *, role: Role) -> list[Path]:
    package, _, resource = path.partition("/")
    found: set[Path] = set()
    for folder in _package_folders(uri, package, role=role):
        matches = _matches(folder / resource)
        if any(not match.resolve().is_relative_to(folder.resolve()) for match in matches):
            raise SourceError(
                role.missing, f"{role.name}: {uri} leads out of the package {package}; name a file "
                "inside it."
            )  # fmt: skip
        found.update(matches)
    return sorted(found)


def _package_folders(uri: str, package: str, *, role: Role) -> list[Path]:
    # A dotted name would import its parent.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = [Path(each) for each in (spec and spec.submodule_search_locations) or []]
    if not folders:
        raise missing(
            uri,
            role=role,
            hint=f"no package '{package}' is installed in the environment that runs; install it",
        )
    return folders


def _matches(path: Path) -> list[Path]:
    """`*` matches within a name, `**` any folders; everything else stands for itself."""
    parts = path.parts
    first = next((place for place, part in enumerate(parts) if "*" in part), None)
    if first is None:
        return [path] if path.exists() else []
    pattern = escape_all_but_stars("/".join(parts[first:]))
    return sorted(each for each in Path(*parts[:first]).glob(pattern) if each.is_file())


def escape_all_but_stars(path: str) -> str:
    """A glob pattern in which only `*` is special."""
    return path.replace("[", "[[]").replace("?", "[?]")
