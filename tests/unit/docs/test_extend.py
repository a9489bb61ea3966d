"""The page for whoever extends Tunesmith keeps its promise: few places, and each is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "docs" / "task" / "extend.md", ROOT / "CONTRIBUTING.md"]
TOP = {path.name for path in ROOT.iterdir()}
MOST_PLACES = {"a stage": 4, "a field": 4, "a reason": 3, "a kind": 6}


def places_of() -> dict[str, list[int]]:
    """The numbers of the places, by what is added."""
    text = PAGES[0].read_text(encoding="utf-8")
    sections = re.findall(r"^## Add (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return {
        name: [int(number) for number in re.findall(r"^(\d+)\. \*\*", body, re.MULTILINE)]
        for name, body in sections
    }


def test_nothing_takes_more_places_than_promised() -> None:
    """A stage took 14 once, and a kind 18: what is not named here derives from what is."""
    assert places_of() == {name: list(range(1, most + 1)) for name, most in MOST_PLACES.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_every_path_that_is_named_exists(page: Path) -> None:
    quoted = re.findall(r"`([\w./-]+)`", page.read_text(encoding="utf-8"))
    paths = [name for name in quoted if name.partition("/")[0] in TOP]

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
