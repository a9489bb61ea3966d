"""A job whose training is short and has many checkpoints: a random model of two layers."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from command import Ran
from manifests import a_job

_ROOT = Path(__file__).parents[2]
_MAKE_MODEL = """
import sys
from pathlib import Path
from small_models import make_tiny_model
make_tiny_model(Path(sys.argv[1]))
"""


@dataclass(frozen=True, slots=True)
class Interruptible:
    """The manifest of a job called `helpdesk`, and its run up to `evaluate` or beyond."""

    job: Path
    undisturbed: Ran


def small_job(folder: Path) -> Path:
    """Write the manifest, the model and the rows into `folder`."""
    _write_model(folder / "model")
    rows = folder / "rows.jsonl"
    asked = ({"prompt": f"question number {n}?", "completion": "Turn it off."} for n in range(32))
    rows.write_text("".join(f"{json.dumps(row)}\n" for row in asked))
    manifest = a_job(
        model={"uri": (folder / "model").as_uri()},
        dataset={"train": {"uri": rows.as_uri()}, "validationFraction": 0.25},
        training={
            "maxSteps": 300,
            "sequenceLength": 256,
            "evaluateEverySteps": 50,
            "batch": {"size": 8, "microBatchSize": 4},
            "lora": {"dropout": 0.1},
        },
        checkpoint={"everySteps": 5},
    )
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return path


def _write_model(folder: Path) -> None:
    """Only the trainer's environment has torch."""
    python = _ROOT / ".venvs/trainer/bin/python"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT / "tests/support")}
    subprocess.run([python, "-c", _MAKE_MODEL, folder], check=True, env=environment)
