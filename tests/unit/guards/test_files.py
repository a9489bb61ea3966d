"""Files stay small, and are named after the one idea they hold."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAX_LINES = 450
EMPTY_NAMES = {"common", "helpers", "manager", "misc", "util", "utils"}
FOLDERS = ("operator", "trainer", "serving", "tests", "benchmarks", "examples", "scripts")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_a_module_is_short_enough_to_read_in_one_go(path: Path) -> None:
    """A longer file holds more than one idea."""
    num_lines = len(path.read_text(encoding="utf-8").splitlines())

    assert num_lines <= MAX_LINES, f"{num_lines} lines: split it by idea"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_a_module_opens_by_saying_where_it_stands(path: Path) -> None:
    """The folder can be read like a book."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_no_module_or_folder_has_a_name_that_says_nothing() -> None:
    """What is called `utils` holds whatever nobody found a place for."""
    parts = {part for path in MODULES for part in path.relative_to(ROOT).with_suffix("").parts}

    assert parts & EMPTY_NAMES == set()


def test_no_module_of_ours_has_the_name_of_a_top_level_module_of_python() -> None:
    """`queue.py` or `types.py` is read as Python's own by whoever meets its import."""
    ours = {
        path.stem
        for path in MODULES
        if path.relative_to(ROOT).parts[0] in {"operator", "trainer", "serving"}
    }

    assert (ours & set(sys.stdlib_module_names)) - {"__init__", "__main__"} == set()
