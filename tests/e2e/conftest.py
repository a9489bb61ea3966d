"""One whole run of the helpdesk example, which every test here looks at or is held against."""

from pathlib import Path

import pytest

from command import Ran, tunesmith
from interruptible import Interruptible, small_job

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


@pytest.fixture(params=["small", pytest.param("135M", marks=pytest.mark.long)])
def interruptible(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Interruptible:
    """A job to interrupt, and how it ends when nobody does."""
    if request.param == "135M":
        return Interruptible(JOB, request.getfixturevalue("first"))
    job = small_job(tmp_path_factory.mktemp("small"))
    home = tmp_path_factory.mktemp("undisturbed")
    options = ("--home", home, "--until", "evaluate", "--output", "json")
    return Interruptible(job, tunesmith("run", job, *options))
