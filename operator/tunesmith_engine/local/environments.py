"""What a stage process starts in: the Python of its environment, and its environment variables.

The folder `$TUNESMITH_ENVIRONMENTS`, else `.venvs` beside the environment that runs this code, has
one virtual environment per name.
"""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_engine.local.errors import EnvironmentMissing
from tunesmith_engine.local.process_table import MARKER
from tunesmith_engine.stages.contracts import STAGE_VARIABLES, Environment

VARIABLE: Final = "TUNESMITH_ENVIRONMENTS"

# Words in names of variables whose values are credentials. Stages read those from files only, as in
# a cluster: a job that works with what lies in the shell would fail there.
_SECRET: Final = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|CREDENTIALS|APIKEY|KEY)(_|$)"
)
# They belong to the interpreter of the command, and would mislead that of a stage.
_OF_THIS_PYTHON: Final = frozenset(
    {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
)
# NB: a stage joins the cluster of Ray that this names. One that the user has for other work is none
# to train in.
_OF_OTHER_WORK: Final = frozenset({"RAY_ADDRESS"})


@dataclass(frozen=True, slots=True)
class Environments:
    """Virtual environments side by side in `root`, each called as its `Environment`."""

    root: Path

    @classmethod
    def discover(cls) -> "Environments":
        """Those that `$TUNESMITH_ENVIRONMENTS` names, or that lie beside the running one."""
        given = os.environ.get(VARIABLE)
        if given:
            return cls(Path(given).expanduser().absolute())
        return cls(Path(sys.prefix).absolute().parent / ".venvs")

    def python(self, environment: Environment) -> Path:
        """The interpreter of an environment.

        Raises:
            EnvironmentMissing: there is none.
        """
        # NB: not resolved. `bin/python` is a link to the base interpreter, and Python knows its
        # virtual environment by the path that it was called with.
        path = self.root / environment / "bin" / "python"
        if not os.access(path, os.X_OK):
            raise EnvironmentMissing(
                f"the environment '{environment}' is not installed: no Python at {path}; "
                f"run: make setup, or set {VARIABLE} to the folder that holds it"
            )
        return path

    def require(self, environments: Iterable[Environment]) -> None:
        """Do nothing if all of them are installed.

        Raises:
            EnvironmentMissing: one is not.
        """
        for environment in environments:
            self.python(environment)


def stage_variables(given: Mapping[str, str], *, attempt: Path) -> dict[str, str]:
    """`given` without credentials, with threads for every core and the marker of the attempt."""
    inherited = {
        name: value
        for name, value in given.items()
        if name not in _OF_THIS_PYTHON | _OF_OTHER_WORK and not _SECRET.search(name.upper())
    }
    # Where it is unset, Ray limits its workers to the CPUs that they ask for.
    inherited.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    return {
        **STAGE_VARIABLES,
        # What the user has set wins, but for the two that processes are found by.
        **inherited,
        # setproctitle, which Ray and vLLM use, writes the title over the environment in memory, and
        # with it over the marker in /proc/PID/environ. This makes it leave the environment alone.
        "SPT_NOENV": "1",
        MARKER: str(attempt),
    }
