"""At the end of every suite: which of its tests were skipped, and why, for `make test` to repeat.

A suite without what it needs skips whole, and looks as green as one that ran.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# An example may take as long as the machine makes it: what is slow for the product has a benchmark.
settings.register_profile("tunesmith", deadline=None)
settings.load_profile("tunesmith")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skips = Counter(
        (report.nodeid.split("/")[1], _reason(report.longrepr))
        for report in terminalreporter.stats.get("skipped", [])
    )
    lines = [f"tests/{suite}: {number} skipped: {why}" for (suite, why), number in skips.items()]
    for line in lines:
        terminalreporter.write_line(f"SKIPPED {line}", red=True, bold=True)
    if lines and "SKIPPED_TESTS" in os.environ:
        path = Path(os.environ["SKIPPED_TESTS"])
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two suites run at once: what is appended in one write stays whole.
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


def _reason(told: object) -> str:
    """Of `(path, line, "Skipped: why")`, the why."""
    return str(told[2]).removeprefix("Skipped: ") if isinstance(told, tuple) else str(told)
