"""The environment variables of a stage process."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tunesmith_engine.local.process_table import MARKER

# Words of names whose values are credentials: stages read those from files only.
_SECRET: Final = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|CREDENTIALS|APIKEY|KEY)(_|$)"
)
# They belong to the interpreter of the command, and would mislead that of a stage.
_PYTHONS_OWN: Final = frozenset({"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"})


def stage_environment(given: Mapping[str, str], *, attempt: Path) -> dict[str, str]:
    """`given` without credentials, with threads for every core and the marker of the attempt."""
    kept = {
        name: value
        for name, value in given.items()
        if name not in _PYTHONS_OWN and not _SECRET.search(name.upper())
    }
    kept.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    # GNU's OpenMP spins 300,000 times before it sleeps: on cores shared with another job that more
    # than halves both, and on cores of its own a stage gains nothing by it (docs/log.md).
    kept.setdefault("GOMP_SPINCOUNT", "1000")
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        # Libraries that rename their process would write over the marker.
        "SPT_NOENV": "1",
        MARKER: str(attempt),
    }
