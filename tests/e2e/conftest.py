"""One whole run of the helpdesk example, which every test here looks at or is held against."""

from pathlib import Path

import pytest

from command import Ran, tunesmith

JOB = Path(__file__).parents[2] / "examples/helpdesk/job.yaml"


@pytest.fixture(scope="session")
def job() -> Path:
    return JOB


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def first(home: Path) -> Ran:
    """The first run, which does all the work."""
    return tunesmith("run", JOB, "--home", home, "--output", "json", timeout_s=1200)
