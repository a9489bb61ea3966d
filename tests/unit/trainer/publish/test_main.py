"""`python -m tunesmith_trainer`: the way in, light for stages that need nothing heavy."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith_trainer.__main__ import end_cleanly
from verified_job import make_verified_job, publish_request

HEAVY = ("peft", "ray", "torch", "transformers")


def test_a_stage_runs_from_its_request_and_imports_only_what_it_needs(tmp_path: Path) -> None:
    root = make_verified_job(tmp_path / "job")
    request = publish_request(root, output=root / "out" / "artifacts", version="v1")
    path = tmp_path / "request.json"
    path.write_text(request.model_dump_json(by_alias=True))

    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tunesmith_trainer", "publish", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr[-2000:]
    result = json.loads(Path(request.result).read_text())
    assert result["artifacts"][0]["uri"] == (root / "models/tickets/v1").as_uri()
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert imported.isdisjoint(HEAVY)


def test_sigterm_ends_a_stage_as_an_exception_would() -> None:
    before = signal.signal(signal.SIGTERM, end_cleanly)
    try:
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert caught.value.code == 128 + signal.SIGTERM
