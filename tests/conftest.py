"""At the end of every suite: which of its tests failed or were skipped, for `make test` to repeat.

A suite without what it needs skips whole, and looks as green as one that ran; and of suites that
run side by side, the failures of the first to end are far up in what is printed.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

# An example may take as long as the machine makes it: what is slow for the product has a benchmark.
settings.register_profile("tunesmith", deadline=None)
settings.load_profile("tunesmith")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # The processes of pytest-xdist sum up, too; what each has seen is told again by the first.
    if hasattr(terminalreporter.config, "workerinput"):
        return
    skips = Counter(
        (report.nodeid.split("/")[1], _reason(report.longrepr))
        for report in terminalreporter.stats.get("skipped", [])
    )
    lines = [f"tests/{suite}: {number} skipped: {why}" for (suite, why), number in skips.items()]
    for line in lines:
        terminalreporter.write_line(f"SKIPPED {line}", red=True, bold=True)
    _append("SKIPPED_TESTS", lines)
    failed = [*terminalreporter.stats.get("failed", []), *terminalreporter.stats.get("error", [])]
    _append("FAILED_TESTS", [f"{report.nodeid}: {_what_failed(report)}" for report in failed])


def _append(variable: str, lines: Sequence[str]) -> None:
    """To the file that the variable names, if it names one."""
    if lines and variable in os.environ:
        path = Path(os.environ[variable])
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two suites run at once: what is appended in one write stays whole.
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


def _what_failed(report: pytest.TestReport) -> str:
    """The exception, in a line of at most 200 characters."""
    crash = getattr(report.longrepr, "reprcrash", None)
    told = crash.message if crash else str(report.longrepr)
    return (told.strip().splitlines() or ["no message"])[0][:200]


def _reason(told: object) -> str:
    """Of `(path, line, "Skipped: why")`, the why."""
    return str(told[2]).removeprefix("Skipped: ") if isinstance(told, tuple) else str(told)
