"""A replica to play with, whose fingerprints a test may change."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from played_replica import play_replica, write_fingerprints


@pytest.fixture
def fingerprints(tmp_path: Path) -> Path:
    return write_fingerprints(tmp_path)


@pytest.fixture
def play(fingerprints: Path) -> Callable[..., None]:
    return partial(play_replica, fingerprints=fingerprints)
