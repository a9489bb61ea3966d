"""CycloneDX 1.6: what a published model, or an image, is made of.

Equal contents give equal texts: there is neither a time nor a random serial number in them, since a
version's name is the digest of its files.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

Component = dict[str, Any]

SPEC_VERSION: Final = "1.6"
# Of hubs' cards, which write them in small letters; the schema of CycloneDX takes SPDX's own alone.
_SPDX: Final = {
    name.lower(): name
    for name in (
        "AFL-3.0", "AGPL-3.0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
        "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC0-1.0", "GPL-2.0", "GPL-3.0",
        "ISC", "LGPL-3.0", "MIT", "MPL-2.0", "Unlicense",
    )
}  # fmt: skip


def document(
    subject: Component, components: Iterable[Component], *, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The bill of `subject`, which depends on all `components`; `metadata` stands beside it."""
    parts = sorted(components, key=lambda part: str(part["bom-ref"]))
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {**metadata, "component": subject},
        "components": parts,
        "dependencies": [
            {"ref": subject["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}
        ],
    }


def text_of(bill: Mapping[str, Any]) -> str:
    """As a file has it."""
    return json.dumps(bill, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def library(
    name: str,
    version: str,
    *,
    licence: str | None = None,
    hashes: Sequence[str] = (),
    properties: Sequence[tuple[str, str]] = (),
) -> Component:
    """A package of PyPI; `licence` is an expression of SPDX, where it is known."""
    purl = f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version, safe='')}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        **({"licenses": [{"expression": licence}]} if licence else {}),
        **properties_of(properties),
        **hashes_of(hashes),
    }


def hashes_of(digests: Iterable[str]) -> dict[str, Any]:
    """Digests as `sha256:` and 64 digits; no entry where there is none."""
    values = [{"alg": "SHA-256", "content": each.removeprefix("sha256:")} for each in digests]
    return {"hashes": values} if values else {}


def properties_of(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What CycloneDX has no field for; no entry where there is nothing."""
    values = [{"name": f"tunesmith:{name}", "value": value} for name, value in pairs]
    return {"properties": values} if values else {}


def licence_of(name: str | None) -> dict[str, Any]:
    """The licence as its owner calls it; no entry where it is not known."""
    if not name:
        return {}
    known = _SPDX.get(name.lower())
    return {"licenses": [{"license": {"id": known} if known else {"name": name}}]}
