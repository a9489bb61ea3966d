"""Helm's command against the API server that KUBECONFIG names."""

import json
import subprocess
from pathlib import Path
from typing import Any

from chart import CHART


def install(release: str, *flags: str, chart: Path = CHART) -> None:
    """Install the chart; definitions that lie there already become the release's."""
    _helm("install", release, str(chart), "--take-ownership", *flags)


def upgrade(release: str, *flags: str, chart: Path = CHART) -> None:
    """Upgrade to a chart and values."""
    _helm("upgrade", release, str(chart), "--take-ownership", *flags)


def rollback(release: str, revision: int, *flags: str) -> None:
    """Go back to an earlier revision."""
    _helm("rollback", release, str(revision), *flags)


def uninstall(release: str, *flags: str) -> str:
    """What Helm says while it takes the release away."""
    return _helm("uninstall", release, *flags)


def releases(*flags: str) -> list[Any]:
    """Every release, whatever became of it."""
    return list(json.loads(_helm("list", "--all", "--output", "json", *flags)))


def _helm(*arguments: str) -> str:
    done = subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
