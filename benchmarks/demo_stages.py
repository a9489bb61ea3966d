"""How long the quickstart takes after installing, stage by stage, from an empty home folder."""

import shutil
import time
from pathlib import Path
from typing import Any

from commands import ROOT, run_job

JOB = ROOT / "examples" / "smalltalk" / "job.yaml"
TARGET_S = 600


def measure(home: Path) -> dict[str, Any]:
    """Seconds of each stage, of the whole run, and of a second run that has nothing left to do."""
    place = home / "demo"
    shutil.rmtree(place, ignore_errors=True)
    first, first_s = _timed(place)
    _, second_s = _timed(place)
    return {
        "stageSeconds": {each["name"]: round(each["seconds"], 1) for each in first["stages"]},
        "runSeconds": round(first_s, 1),
        "secondRunSeconds": round(second_s, 1),
        "targetSeconds": TARGET_S,
        "evaluation": first["evaluation"],
    }


def _timed(home: Path) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    outcome = run_job(JOB, home=home)
    return outcome, time.monotonic() - started
