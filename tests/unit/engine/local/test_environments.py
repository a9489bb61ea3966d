"""Where a stage finds its Python, in a checkout and where a wheel was installed."""

import sys
from pathlib import Path

import pytest

from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.errors import EnvironmentMissing
from tunesmith_engine.stages.contracts import Environment


def test_an_environment_of_its_own_comes_first(tmp_path: Path) -> None:
    python = tmp_path / "trainer" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)

    assert Environments(tmp_path, lambda _: True).python(Environment.TRAINER) == python


def test_the_running_python_stands_in_if_it_has_all_libraries(tmp_path: Path) -> None:
    environments = Environments(tmp_path, {"torch", "transformers", "peft", "ray"}.__contains__)

    assert environments.python(Environment.TRAINER) == Path(sys.executable)


def test_what_is_missing_and_where_to_install_it_is_said(tmp_path: Path) -> None:
    environments = Environments(tmp_path, {"torch", "transformers", "peft"}.__contains__)

    with pytest.raises(EnvironmentMissing) as error:
        environments.python(Environment.TRAINER)

    assert "lacks ray;" in str(error.value)
    assert "'tunesmith[trainer]'" in str(error.value)
    assert "TUNESMITH_ENVIRONMENTS" in str(error.value)


def test_an_environment_that_few_jobs_need_is_built_by_a_command_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match=r"in the repository run: make setup-edge;"):
        Environments(tmp_path, lambda _: False).python(Environment.EDGE)
