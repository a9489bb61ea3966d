"""Pages that are written from the models, and pages that must name all of them."""

import importlib.util
from pathlib import Path

import pytest

from tunesmith_api.reasons import Reason

ROOT = Path(__file__).parents[3]


def generated_pages() -> dict[str, str]:
    path = ROOT / "scripts" / "write_reference.py"
    spec = importlib.util.spec_from_file_location("write_reference", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    pages: dict[str, str] = script.pages()
    return pages


@pytest.mark.parametrize(("name", "text"), generated_pages().items())
def test_reference_is_what_the_models_give(name: str, text: str) -> None:
    """A field without its line in the reference is caught here."""
    found = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")

    assert found == text, f"docs/reference/{name} is stale; run scripts/write_reference.py"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_says_what_to_do(reason: Reason) -> None:
    """Whoever searches for the word in the status finds it."""
    names = ("when-a-job-fails.md", "when-a-rollout-stops.md")
    pages = [(ROOT / "docs" / "task" / name).read_text(encoding="utf-8") for name in names]

    assert any(f"`{reason}`" in page for page in pages)
