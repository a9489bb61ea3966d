"""Command and trainer in one environment, as `pip install 'tunesmith[trainer]'` puts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from small_models import CORPUS, make_tiny_model

pytestmark = [pytest.mark.heavy, pytest.mark.long, pytest.mark.timeout(600)]

RUN = "import sys; from tunesmith_cli.main import main; sys.exit(main(sys.argv[1:]))"
# In a process of Ray's: how far its niceness is from that of whoever started Ray.
NICENESS = """\
import os, sys
from pathlib import Path
import ray
from tunesmith_trainer.train.ray_cluster import local_ray
with local_ray(workers=1, gpus=0, record=Path(sys.argv[1])):
    print("added", ray.get(ray.remote(lambda: os.nice(0)).remote()) - os.nice(0))
"""


def test_it_trains_and_then_says_what_is_missing(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "base")
    rows = [{"prompt": f"{number}: {CORPUS[0]}", "completion": CORPUS[1]} for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "one"},
        "spec": {
            "model": {"uri": f"file://{tmp_path}/base"},
            "dataset": {
                "train": {"uri": f"file://{tmp_path}/rows.jsonl"},
                "validationFraction": 0.2,
            },
            "training": {"maxSteps": 2, "sequenceLength": 128},
            "output": {"model": "one"},
        },
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job))

    trained, whole = _run(tmp_path, "--until", "train"), _run(tmp_path)

    assert trained.returncode == 0, trained.stderr
    assert list(tmp_path.glob("home/jobs/one/stages/train/*/artifacts/tuned"))
    assert whole.returncode != 0
    assert "'tunesmith[compressor]'" in whole.stderr


def _run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", RUN, "run", "job.yaml", "--home", "home", *arguments],
        cwd=folder,
        env={**os.environ, "TUNESMITH_ENVIRONMENTS": str(folder / "none")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_rays_workers_are_as_nice_as_who_started_them(tmp_path: Path) -> None:
    """Ray's own 15 left a laptop's training nothing beside any other work."""
    command = [sys.executable, "-c", NICENESS, str(tmp_path / "record")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)

    assert "added 0" in ran.stdout
