"""What memory spares a search: regret after 5 trials with it beside 15 of Optuna's without.

On real tables of small models (`search_tables.py`), each task in turn with the others remembered;
beside TPE from nothing, random draws, a grid, and the plainest use of memory. And what it costs
where memory is hostile. `search_memory_run.py` runs in the trainer's environment, which has Optuna.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from commands import ROOT


def measure(home: Path) -> dict[str, Any]:
    """Regrets by search, where 0 is a table's best loss and 1 its median, and costs."""
    folder = home / "search-memory"
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join((str(ROOT / "operator"), str(ROOT / "benchmarks")))
    told = subprocess.run(
        [ROOT / ".venvs/trainer/bin/python", ROOT / "benchmarks/search_memory_run.py", folder],
        stdout=subprocess.PIPE,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
    ).stdout
    measured: dict[str, Any] = json.loads(told)
    return measured
