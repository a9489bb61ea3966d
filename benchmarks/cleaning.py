"""Precision and recall of every rule of cleaning, on faults planted in 2,000 real conversations.

`planted_faults.py` says which. Mojibake is mended by ftfy as well, in an environment of its own.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from commands import run_script
from planted_faults import Planted, Turns, as_row, planted

SEEDS: Final = (1, 2, 3)
FTFY: Final = "ftfy==6.3.1"
_MEND: Final = """
import ftfy, json, sys
told = [[ftfy.fix_encoding(turn) for turn in turns] for turns in json.load(open(sys.argv[1]))]
print(json.dumps(told))
"""


def measure(home: Path) -> dict[str, Any]:
    """By rule: precision and recall over all seeds, and how much of the mojibake is as before."""
    folder = home / "cleaning"
    runs = [_run(home, folder / str(seed), seed=seed) for seed in SEEDS]
    rules = runs[0]["rules"]
    return {
        "seeds": SEEDS,
        "rules": {rule: _mean([run["rules"][rule] for run in runs]) for rule in rules},
        "mended": _mean([run["mended"] for run in runs]),
    }


def _run(home: Path, folder: Path, *, seed: int) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    data = planted(home / "packages", seed=seed)
    _write(data.rows, folder / "rows.jsonl")
    _write(data.held_out, folder / "held-out.jsonl")
    damaged = [data.rows[place] for place in sorted(data.damaged)]
    (folder / "damaged.json").write_text(json.dumps(damaged), encoding="utf-8")
    told = run_script("trainer", "cleaning_run.py", folder)
    before = [data.damaged[place] for place in sorted(data.damaged)]
    by_ftfy = _mended_by_ftfy(home / "ftfy", folder / "damaged.json")
    return {
        "rules": _judged(data, told["findings"]),
        "mended": {"ours": _same(told["mended"], before), "ftfy": _same(by_ftfy, before)},
    }


def _judged(data: Planted, findings: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, set[int]] = {rule: set() for rule in data.places}
    for finding in findings:
        if finding["split"] == "train" and finding["rule"] in found:
            found[finding["rule"]].add(int(finding["row"].rpartition(":")[2]) - 1)
    # Rows with a swapped answer are copies as well, whichever rule they are planted for.
    found["nearDuplicates"] -= data.places["conflictingAnswers"]
    return {
        rule: {
            "precision": len(found[rule] & places) / max(1, len(found[rule])),
            "recall": len(found[rule] & places) / len(places),
        }
        for rule, places in data.places.items()
    }


def _mended_by_ftfy(environment: Path, file: Path) -> list[Turns]:
    uv = str(Path(sys.executable).with_name("uv"))
    if not (environment / "bin/python").exists():
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", environment], check=True)
        install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", environment, FTFY]
        subprocess.run(install, check=True)
    command: list[str | Path] = [environment / "bin/python", "-c", _MEND, file]
    mended: list[Turns] = json.loads(
        subprocess.run(command, capture_output=True, check=True).stdout
    )
    return mended


def _same(mended: list[Turns], before: list[Turns]) -> float:
    return sum(one == other for one, other in zip(mended, before, strict=True)) / len(before)


def _mean(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.fmean(run[name] for run in runs), 3) for name in runs[0]}


def _write(rows: list[Turns], path: Path) -> None:
    path.write_text("".join(f"{json.dumps(as_row(turns))}\n" for turns in rows), encoding="utf-8")
