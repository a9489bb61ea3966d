"""Where the Python of each stage environment lies on this machine.

The folder `$TUNESMITH_ENVIRONMENTS`, else `.venvs` beside the environment that runs this code, has
one virtual environment per name.
"""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_engine.local.errors import EnvironmentMissing
from tunesmith_engine.stages.contracts import Environment

VARIABLE: Final = "TUNESMITH_ENVIRONMENTS"


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
        # NB: not resolved. A virtual environment is found by the path of its link.
        path = self.root / environment / "bin" / "python"
        if not os.access(path, os.X_OK):
            raise EnvironmentMissing(
                f"the environment '{environment}' is not installed: no Python at {path}; "
                f"run: make setup, or set {VARIABLE} to the folder that holds it"
            )
        return path

    def require(self, wanted: Iterable[Environment]) -> None:
        """Do nothing if all of `wanted` are installed.

        Raises:
            EnvironmentMissing: one is not.
        """
        for environment in wanted:
            self.python(environment)
