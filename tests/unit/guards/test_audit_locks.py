"""What the locks hold is known: their licences, and whether an advisory is about them."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    path = ROOT / "scripts" / "audit_locks.py"
    spec = importlib.util.spec_from_file_location("audit_locks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for the types of their fields.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def advisory(name: str, **affected: Any) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": name}
    return {"id": "MADE-UP-2026-1", "affected": [{"package": package, **affected}]}


def events(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"ranges": [{"type": "ECOSYSTEM", "events": [{kind: at} for kind, at in pairs]}]}


def test_every_pinned_version_is_on_the_page_of_licences(audit: ModuleType) -> None:
    """Run scripts/audit_locks.py licences."""
    rows = {(name, version) for name, version, _ in audit._ROW.findall(audit.PAGE.read_text())}
    pinned = {(pin.name, pin.version) for pins in audit.locks().values() for pin in pins}

    assert pinned
    assert pinned ^ (rows - {("package", "version")}) == set()


def test_pins_are_read_with_their_hashes(audit: ModuleType) -> None:
    text = "# a lock\nA_b.c==1.0 \\\n    --hash=sha256:" + "a" * 64 + "\n    # via x\nz==2\n"

    first, second = audit.pins_of(text)

    assert (first.name, first.version, first.hashes) == ("a-b-c", "1.0", ("a" * 64,))
    assert (second.name, second.version, second.hashes) == ("z", "2", ())


@pytest.mark.parametrize(
    ("affected", "hit"),
    [
        ({"versions": ["2.1", "2.2"]}, True),
        ({"versions": ["2.1"]}, False),
        (events(("introduced", "0"), ("fixed", "2.3")), True),
        (events(("introduced", "0"), ("fixed", "2.2")), False),
        (events(("introduced", "2.10")), False),
        (events(("introduced", "1"), ("last_affected", "2.2")), True),
        (events(("introduced", "1"), ("last_affected", "2.1.9")), False),
        (events(("introduced", "0"), ("fixed", "1"), ("introduced", "2"), ("fixed", "3")), True),
        (events(("fixed", "3"), ("introduced", "2")), True),
        ({}, False),
    ],
)
def test_a_range_says_which_versions_are_affected(
    audit: ModuleType, *, affected: dict[str, Any], hit: bool
) -> None:
    (made,) = audit.parse_advisories(json.dumps(advisory("Some_Package", **affected)), source="x")

    assert made.hits(audit.Pin("some-package", "2.2")) is hit
    assert not made.hits(audit.Pin("another", "2.2"))


def test_a_made_up_advisory_is_found_in_the_locks(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hit = advisory("pydantic", **events(("introduced", "0")))
    gone = {**advisory("numpy", **events(("introduced", "0"))), "withdrawn": "2026-01-01T00:00:00Z"}
    other = {"id": "X", "affected": [{"package": {"ecosystem": "npm", "name": "pydantic"}}]}
    file = tmp_path / "all.json"
    file.write_text(json.dumps([hit, gone, other]))

    assert audit.main(["advisories", str(file)]) == 1
    out = capsys.readouterr().out
    assert "requirements/operator.txt: pydantic" in out
    assert "numpy" not in out

    file.write_text(json.dumps({"vulns": [gone]}))
    assert audit.main(["advisories", str(file)]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        '"x"',
        "[7]",
        '[{"affected": []}]',
        '[{"id": "a", "affected": [{"package": {"ecosystem": "PyPI"}}]}]',
        json.dumps(advisory("a", **events(("fixed", "no!")))),
    ],
)
def test_what_is_no_advisory_is_an_error(
    audit: ModuleType, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)

    assert audit.main(["advisories", str(file)]) == 2
    assert str(file) in capsys.readouterr().err


BASE = "registry.example.com:5000/python"


def bill(audit: ModuleType, out: Path, lock: Path, *, base: str) -> int:
    words = ["bill", "--image", "tunesmith/operator", "--version", "0.1.0", "--base", base]
    return int(audit.main([*words, "--lock", str(lock), "--output", str(out)]))


def test_the_bill_of_an_image_has_its_base_and_every_package_of_its_locks(
    audit: ModuleType, tmp_path: Path
) -> None:
    out, lock = tmp_path / "operator.cdx.json", ROOT / "requirements" / "operator.txt"
    digest = f"sha256:{'ab' * 32}"

    assert bill(audit, out, lock, base=f"{BASE}@{digest}") == 0

    found = json.loads(out.read_text())
    parts = {part["name"]: part for part in found["components"]}
    assert set(parts) == {BASE, *(pin.name for pin in audit.pins_of(lock.read_text()))}
    assert (parts[BASE]["type"], parts[BASE]["version"]) == ("container", digest)
    assert parts["pydantic"]["licenses"]
    assert parts["pydantic"]["externalReferences"][0]["hashes"]
    assert found["metadata"]["component"]["name"] == "tunesmith/operator"


def test_a_base_without_a_digest_is_refused_and_nothing_written(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, lock = tmp_path / "operator.cdx.json", ROOT / "requirements" / "operator.txt"

    assert bill(audit, out, lock, base=f"{BASE}:3.11") == 2
    assert f"--base {BASE}:3.11: give it with its digest" in capsys.readouterr().err
    assert not out.exists()
