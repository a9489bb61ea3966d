"""What the locks hold: licences, known weaknesses, and a bill of materials for each image.

    scripts/audit_locks.py licences [--check]
    scripts/audit_locks.py advisories FILE...
    scripts/audit_locks.py bill --image NAME --version VERSION --base IMAGE@DIGEST
        --lock FILE... --output FILE

`licences` writes docs/reference/licences.md from what the packages in the environments here say of
themselves; of a package that is installed in none, the page keeps what it had. `advisories` holds
the locks against files in the format of OSV (https://ossf.github.io/osv-schema), such as those of
PyPI's advisory database: nothing is asked of any server. Exit codes: 0, 1 where something was
found, 2 for bad input.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Final

from packaging.version import InvalidVersion, Version

from tunesmith_engine.sources.bill_of_materials import Component, document, library, text_of

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "reference" / "licences.md"
UNKNOWN: Final = "not stated"
EXIT_FOUND: Final = 1
EXIT_BAD_INPUT: Final = 2
_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)(.*)$", re.MULTILINE)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ROW: Final = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)
_MAX_LICENCE: Final = 80
_CLASSIFIER: Final = "License :: "
_FOREWORD: Final = (
    "As each package states it itself, which no lawyer has looked at; `not stated` also of what is",
    "installed in no environment here. Written by `scripts/audit_locks.py licences`. Tunesmith is",
    "under Apache-2.0.",
)


@dataclass(frozen=True, slots=True)
class Pin:
    """A package as a lock has it."""

    name: str
    version: str
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advisory:
    """One weakness, of one package."""

    id: str
    name: str
    versions: frozenset[str]
    ranges: tuple[tuple[Mapping[str, str], ...], ...]

    def hits(self, pin: Pin) -> bool:
        """Whether the pinned version has it."""
        if pin.name != self.name:
            return False
        return pin.version in self.versions or any(
            _is_inside(Version(pin.version), events) for events in self.ranges
        )


def pins_of(text: str) -> list[Pin]:
    """The pins of a lock, each with the digests of the files that may be installed."""
    matches = list(_PIN.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    return [
        Pin(_normal(match[1]), match[2], tuple(_HASH.findall(text, match.start(), end)))
        for match, end in zip(matches, ends, strict=True)
    ]


def locks() -> dict[str, list[Pin]]:
    """Every lock below requirements/, by its path there."""
    folder = ROOT / "requirements"
    read = {
        path.relative_to(folder).as_posix(): pins_of(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.txt"))
        if path.stem not in {"constraints", "overrides", "project"}
    }
    return {name: pins for name, pins in read.items() if pins}


def parse_advisories(text: str, *, source: str) -> list[Advisory]:
    """The advisories about PyPI's packages in a file of OSV: one, a list, or an answer of its API.

    Raises:
        ValueError: it is no such file; the text says why.
    """
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is no JSON: {error}") from error
    if isinstance(read, dict):
        read = read.get("vulns", [read])
    if not isinstance(read, list):
        raise ValueError(f"{source} holds neither an advisory of OSV nor a list")  # noqa: TRY004 - of the text
    try:
        return [advisory for each in read for advisory in _of_pypi(each)]
    except (KeyError, TypeError, AttributeError, InvalidVersion) as error:
        raise ValueError(
            f"{source} holds an advisory that is not as OSV has it ({error!r}); see "
            "https://ossf.github.io/osv-schema"
        ) from error


def _of_pypi(advisory: Mapping[str, Any]) -> Iterator[Advisory]:
    name = str(advisory["id"])
    if advisory.get("withdrawn"):
        return
    for affected in advisory.get("affected", ()):
        package = affected.get("package", {})
        if package.get("ecosystem") != "PyPI":
            continue
        ranges = tuple(
            tuple(each["events"])
            for each in affected.get("ranges", ())
            if each["type"] == "ECOSYSTEM"
        )
        for event in (event for events in ranges for event in events):
            for bound in event.values():
                Version(bound)
        yield Advisory(
            name, _normal(package["name"]), frozenset(affected.get("versions", ())), ranges
        )


def _is_inside(version: Version, events: Sequence[Mapping[str, str]]) -> bool:
    """OSV's own rule: of the events up to the version, the last decides."""
    inside = False
    ordered = sorted(events, key=lambda event: Version(next(iter(event.values()))))
    for event in ordered:
        kind, bound = next(iter(event.items()))
        if kind == "introduced" and version >= Version(bound):
            inside = True
        elif _ends(kind, Version(bound), version):
            inside = False
    return inside


def _ends(kind: str, bound: Version, version: Version) -> bool:
    return version >= bound if kind == "fixed" else kind == "last_affected" and version > bound


def installed_licences() -> dict[tuple[str, str], str]:
    """What each package says of itself, in any of the environments here."""
    places = [*ROOT.glob(".venv/lib/*/site-packages"), *ROOT.glob(".venvs/*/lib/*/site-packages")]
    return {
        (_normal(each.metadata["Name"]), each.version): licence_of(each)
        for each in distributions(path=[str(place) for place in places])
    }


def licence_of(package: Distribution) -> str:
    """An expression of SPDX, else the short text or the classifiers that stand for one."""
    told = package.metadata
    expression = told.get("License-Expression")
    if expression:
        return str(expression)
    # Some put the whole text there, which begins with its name.
    short = " ".join((str(told.get("License") or "").strip().splitlines() or [""])[0].split())
    classes = [str(each) for each in told.get_all("Classifier") or ()]
    named = [each.rpartition(" :: ")[2] for each in classes if each.startswith(_CLASSIFIER)]
    if short and len(short) <= _MAX_LICENCE and short.upper() != "UNKNOWN":
        return short.replace("|", "/")
    return ", ".join(named) or UNKNOWN


def page_of(pinned: Mapping[str, Sequence[Pin]], known: Mapping[tuple[str, str], str]) -> str:
    """The page: one row for each version of each package."""
    where: dict[tuple[str, str], list[str]] = {}
    for lock, pins in pinned.items():
        for pin in pins:
            where.setdefault((pin.name, pin.version), []).append(lock.removesuffix(".txt"))
    rows = [
        f"| {name} | {version} | {known.get((name, version), UNKNOWN)} | {', '.join(names)} |"
        for (name, version), names in sorted(where.items())
    ]
    return "\n".join(
        [
            "# Licences of what the locks hold",
            "",
            *_FOREWORD,
            "",
            "| package | version | licence | locks |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def rows_of(page: str) -> dict[tuple[str, str], str]:
    """What a page says of each version that it knows."""
    rows = {(name, version): licence for name, version, licence in _ROW.findall(page)}
    return {key: licence for key, licence in rows.items() if licence != UNKNOWN}


def bill_of(image: str, version: str, pins: Iterable[Pin], *, base: str) -> str:
    """The bill of an image: its base, a reference with a digest, and the packages added to it.

    ValueError for a base without a digest.
    """
    known = rows_of(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    subject: Component = {
        "type": "container",
        "bom-ref": "image",
        "name": image,
        "version": version,
    }
    parts = {pin.name: _component(pin, known.get((pin.name, pin.version))) for pin in pins}
    components = [_base_component(base), *parts.values()]
    return text_of(document(subject, components, metadata={"lifecycles": [{"phase": "build"}]}))


def _base_component(reference: str) -> Component:
    name, _, digest = reference.partition("@")
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"--base {reference}: give it with its digest, as NAME@sha256:...")
    # NB: that of the manifest, by which it is pulled, and so no hash of a file.
    return {"type": "container", "bom-ref": "base", "name": name, "version": digest}


def _component(pin: Pin, licence: str | None) -> Component:
    part = library(pin.name, pin.version)
    if licence:
        # As the package words it, which is not always an expression of SPDX.
        part["licenses"] = [{"license": {"name": licence}}]
    if pin.hashes:
        # One of these files was installed, and the lock allows no other.
        part["externalReferences"] = [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{pin.name}/{pin.version}/",
                "hashes": [{"alg": "SHA-256", "content": each} for each in pin.hashes],
            }
        ]
    return part


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _licences(options: argparse.Namespace) -> int:
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    page = page_of(locks(), {**rows_of(before), **installed_licences()})
    if options.check:
        if page == before:
            return 0
        print(f"{PAGE.relative_to(ROOT)} is stale; run scripts/audit_locks.py licences")
        return EXIT_FOUND
    PAGE.write_text(page, encoding="utf-8")
    return 0


def _advisories(options: argparse.Namespace) -> int:
    found = 0
    advisories = [
        advisory
        for path in options.files
        for advisory in parse_advisories(path.read_text(encoding="utf-8"), source=str(path))
    ]
    for lock, pins in locks().items():
        for pin in pins:
            for advisory in advisories:
                if advisory.hits(pin):
                    print(f"requirements/{lock}: {pin.name} {pin.version} has {advisory.id}")
                    found += 1
    print(f"{len(advisories)} advisories for packages of PyPI, {found} found in the locks")
    return EXIT_FOUND if found else 0


def _bill(options: argparse.Namespace) -> int:
    pins = [pin for lock in options.lock for pin in pins_of(lock.read_text(encoding="utf-8"))]
    options.output.write_text(
        bill_of(options.image, options.version, pins, base=options.base), encoding="utf-8"
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the three; return the exit code."""
    parser = argparse.ArgumentParser(description="Account for what the locks hold.")
    commands = parser.add_subparsers(required=True)
    licences = commands.add_parser("licences", help="write docs/reference/licences.md")
    licences.add_argument("--check", action="store_true", help="only say whether it is current")
    licences.set_defaults(run=_licences)
    advisories = commands.add_parser("advisories", help="hold the locks against files of OSV")
    advisories.add_argument("files", nargs="+", type=Path, metavar="FILE")
    advisories.set_defaults(run=_advisories)
    bill = commands.add_parser("bill", help="write an image's bill of materials (CycloneDX)")
    bill.add_argument("--image", required=True)
    bill.add_argument("--version", required=True)
    bill.add_argument("--base", required=True, help="the image it starts from, with its digest")
    bill.add_argument("--lock", required=True, nargs="+", type=Path)
    bill.add_argument("--output", required=True, type=Path)
    bill.set_defaults(run=_bill)
    options = parser.parse_args(argv)
    try:
        return int(options.run(options))
    except (OSError, ValueError) as error:
        print(f"audit: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
