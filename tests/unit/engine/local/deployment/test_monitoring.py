"""What a laptop keeps of what it watched; on a full disk nothing, and it goes on."""

import errno
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.local.deployment import monitoring
from tunesmith_engine.local.deployment.monitoring import SAVE_S, Monitoring
from tunesmith_engine.monitoring.memory import read_memory
from tunesmith_engine.monitoring.traffic_drift import SketchDetector

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
STABLE = {
    "version": "v1",
    "revision": "0000aaaa",
    "digest": "sha256:0",
    "uri": "file:///models",
    "since": NOW,
}
STATUS = ModelDeploymentStatus.model_validate({"phase": "Serving", "stable": STABLE})


@pytest.fixture
def seconds() -> Iterator[float]:
    """A clock that a minute passes on between two looks."""
    return (SAVE_S * number for number in count())


def test_a_full_disk_is_told_and_nothing_else_ends(
    tmp_path: Path,
    seconds: Iterator[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "monitoring.json"
    watched = Monitoring(
        path,
        ModelDeploymentSpec(model="helpdesk"),
        detector=SketchDetector(),
        clock=lambda: next(seconds),
    )

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(monitoring, "write_atomically", full)
        assert watched.look([], STATUS, now=NOW) is not None
    assert "No space left" in caplog.text
    assert not path.exists()

    assert watched.look([], STATUS, now=NOW) is not None
    kept = read_memory(path.read_bytes())
    assert kept is not None
    assert kept.revision == "0000aaaa"
