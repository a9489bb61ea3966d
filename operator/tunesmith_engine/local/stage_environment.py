"""The environment variables of a stage process."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tunesmith_engine.local.process_table import MARKER
from tunesmith_engine.stages.contracts import STAGE_VARIABLES

# Words of names whose values are credentials: stages read those from files only.
_SECRET: Final = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|CREDENTIALS|APIKEY|KEY)(_|$)"
)
# They belong to the interpreter of the command, and would mislead that of a stage.
_PYTHONS_OWN: Final = frozenset({"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"})
# A cluster of Ray that the user has for other work is none to train in.
_OF_OTHERS: Final = frozenset({"RAY_ADDRESS"})


def stage_environment(given: Mapping[str, str], *, attempt: Path) -> dict[str, str]:
    """`given` without credentials, with threads for every core and the marker of the attempt."""
    kept = {
        name: value
        for name, value in given.items()
        if name not in _PYTHONS_OWN | _OF_OTHERS and not _SECRET.search(name.upper())
    }
    kept.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    return {
        **STAGE_VARIABLES,
        **kept,
        # Libraries that rename their process would write over the marker.
        "SPT_NOENV": "1",
        MARKER: str(attempt),
    }
