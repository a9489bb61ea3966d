"""One tuned job for all tests of this folder."""

from pathlib import Path

import pytest

from tuned_job import make_tuned_job


@pytest.fixture(scope="package")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("tuned"))
