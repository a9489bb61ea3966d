"""The commands that benchmarks run: `tunesmith` as users do, and scripts in other environments."""

import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
RESAMPLES = 2000
TUNESMITH = Path(sys.executable).with_name("tunesmith")


def run_job(job: Path, *, home: Path, until: str = "publish") -> dict[str, Any]:
    """The object that `tunesmith run` prints.

    Raises:
        CalledProcessError: the job did not succeed.
    """
    command = [TUNESMITH, "run", job, "--home", home, "--until", until, "--output", "json"]
    found: dict[str, Any] = json.loads(_stdout_of(command))
    return found


def run_script(environment: str, script: str, *arguments: str | Path) -> dict[str, Any]:
    """The object that a script of this folder prints, run in an environment."""
    python = ROOT / ".venvs" / environment / "bin" / "python"
    lines = _stdout_of([python, ROOT / "benchmarks" / script, *arguments]).splitlines()
    found: dict[str, Any] = json.loads(lines[-1])  # NB: vLLM, too, writes to stdout
    return found


def environment_with(folder: Path, *packages: str) -> Path:
    """Python of an environment with these packages alone, made where it is not there yet."""
    python = folder / "bin/python"
    if not python.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", folder], check=True)
        install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", folder]
        subprocess.run([*install, *packages], check=True)
    return python


def artifact(outcome: dict[str, Any], name: str) -> Path:
    """Where an artifact of a finished run lies."""
    uri = next(each["uri"] for each in outcome["artifacts"] if each["name"] == name)
    return Path(unquote(urlsplit(uri).path))


def facts(home: Path, outcome: dict[str, Any], stage: str) -> dict[str, Any]:
    """What a stage of a finished run found."""
    key = next(each["key"] for each in outcome["stages"] if each["name"] == stage)
    job = outcome["job"]
    result = home / "jobs" / job / "stages" / stage / key[:16] / "result.json"
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))["facts"]
    return found


def summary(values: list[float]) -> dict[str, Any]:
    """Median and range of repeated measurements."""
    return {
        "median": round(statistics.median(values), 2),
        "min": round(min(values), 2),
        "max": round(max(values), 2),
        "n": len(values),
    }


def interval(differences: list[float]) -> dict[str, float]:
    """Median of paired differences, and its 95 % interval by the bootstrap."""
    draw = random.Random(0)
    medians = sorted(
        statistics.median(draw.choices(differences, k=len(differences))) for _ in range(RESAMPLES)
    )
    return {
        "median": round(statistics.median(differences), 3),
        "low": round(medians[int(0.025 * RESAMPLES)], 3),
        "high": round(medians[int(0.975 * RESAMPLES)], 3),
    }


def _stdout_of(command: list[Any]) -> str:
    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    ).stdout.strip()
