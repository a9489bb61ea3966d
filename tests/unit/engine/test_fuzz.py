"""Foreign bytes before the control plane: each is read or refused, never a crash or a hang."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from foreign_bytes import PARSERS
from fuzzing import LONG, SHORT, fuzz

_WANTED: Final = "install atheris, which has wheels for Python 3.11 to 3.13 on Linux x86-64"
# Seconds for each parser; hours are worth it after a change of what it reads.
_SECONDS: Final = os.environ.get("TEST_FUZZ_SECONDS", "60")
# For one input, and MiB for the process.
_LONGEST_S: Final = 20
_MEMORY: Final = 2048


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses(name: str) -> None:
    check, samples, refusals = PARSERS[name]
    fuzz(check, samples, refusals=refusals, examples=SHORT)


@pytest.mark.long
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses_whatever_comes(name: str) -> None:
    check, samples, refusals = PARSERS[name]
    fuzz(check, samples, refusals=refusals, examples=LONG)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses_what_reaches_other_lines_of_it(
    name: str, tmp_path: Path
) -> None:
    """`TEST_FUZZ_SECONDS=3600 make test-long ARGS="-k other_lines"` takes an hour for each."""
    if find_spec("atheris") is None:
        pytest.skip(f"no guided fuzzing: {_WANTED}")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, sample in enumerate(PARSERS[name].samples):
        (corpus / str(number)).write_bytes(sample)
    limits = [f"-timeout={_LONGEST_S}", f"-rss_limit_mb={_MEMORY}", f"-max_total_time={_SECONDS}"]
    place = [f"-artifact_prefix={tmp_path}/", str(corpus)]
    command = [sys.executable, "-m", "guided_fuzzing", name, *limits, *place]
    support = str(Path(__file__).parents[2] / "support")
    path = os.pathsep.join([support, *sys.path])
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=False, text=True
    )

    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
