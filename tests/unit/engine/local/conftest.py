"""A place to run jobs in, for every test of the local executor, and no waiting."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_runs import Place, make_place
from tunesmith_engine.lifecycle import retry_policy
from tunesmith_engine.local import processes, runner


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_policy, "BACKOFF_BASE_S", 0.01)
    monkeypatch.setattr(processes, "LEFTOVER_GRACE_S", 0.1)
    monkeypatch.setattr(runner, "POLL_S", 0.02)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = make_place(tmp_path)
    yield place
    processes.terminate_leftovers(place.home.root.resolve())
