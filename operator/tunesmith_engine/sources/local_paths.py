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
        paths = _matches(base / Path(parsed.path).expanduser())
        hint = f"relative paths start at the manifest's folder, {base}"
    else:
        paths = _matches_in_package(uri, parsed.path, role=role)
        hint = "the package is installed but has no such file"
    if not paths:
        raise missing(uri, role=role, hint=hint)
    return paths


def _matches_in_package(uri: str, path: str, *, role: Role) -> list[Path]:
    package, _, resource = path.partition("/")
    # NB: a dotted name would import its parent, and with it run its code.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    # A namespace package has several folders; a module that is one file has none.
    folders = [Path(place) for place in (spec and spec.submodule_search_locations) or []]
    if not folders:
        raise missing(
            uri,
            role=role,
            hint=f"no package '{package}' is installed in the environment that runs; install it",
        )
    paths: set[Path] = set()
    for folder in folders:
        matches = _matches(folder / resource)
        # Resolved: `..` may leave the package, and so may a link in it.
        if any(not match.resolve().is_relative_to(folder.resolve()) for match in matches):
            raise SourceError(
                role.missing, f"{role.name}: {uri} leads out of the package {package}; name a file "
                "inside it."
            )  # fmt: skip
        paths.update(matches)
    return sorted(paths)


def _matches(path: Path) -> list[Path]:
    """`*` matches within a name, `**` any folders; everything else stands for itself."""
    parts = path.parts
    first = next((place for place, part in enumerate(parts) if "*" in part), None)
    if first is None:
        return [path] if path.exists() else []
    pattern = escape_all_but_stars("/".join(parts[first:]))
    return sorted(match for match in Path(*parts[:first]).glob(pattern) if match.is_file())


def stays_below(name: str) -> bool:
    """Whether a relative path with / between its parts stays in the folder that it is joined to."""
    # An empty part and a dot name no other place, but two names would then be one file here.
    return "\0" not in name and all(part not in {"", ".", ".."} for part in name.split("/"))


def escape_all_but_stars(path: str) -> str:
    """A glob pattern in which only `*` is special."""
    return path.replace("[", "[[]").replace("?", "[?]")
