"""What a stage process starts in: the Python of its environment, and its environment variables.

The folder `$TUNESMITH_ENVIRONMENTS`, else `.venvs` beside the environment that runs this code, has
one virtual environment per name. What is not there, the running Python stands in for, if it has the
libraries: `pip install 'tunesmith[trainer]'` puts command and trainer into one.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tunesmith_engine.local.errors import EnvironmentMissing
from tunesmith_engine.local.process_table import MARKER
from tunesmith_engine.stages.contracts import STAGE_VARIABLES, Environment

VARIABLE: Final = "TUNESMITH_ENVIRONMENTS"

# Words in names of variables whose values are credentials. Stages read those from files only, as in
# a cluster: a job that works with what lies in the shell would fail there.
_SECRET: Final = re.compile(
    # Also within a word, as in PGPASSWORD.
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL|APIKEY"
    r"|(^|_)(TOKEN|KEY|AUTH|PAT|BEARER|NETRC|KUBECONFIG|PGPASSFILE)(_|$)|[A-Z]_PWD$"
)
# In values of any name, such as DATABASE_URL.
_URL_WITH_PASSWORD: Final = re.compile(r"://[^/@\s]*:[^/@\s]+@")
# NB: but those of the network itself, without which nothing could be fetched.
_PROXY: Final = re.compile(r"_PROXY$")
# They belong to the interpreter of the command, and would mislead that of a stage.
_OF_THIS_PYTHON: Final = frozenset(
    {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
)
# NB: a stage joins the cluster of Ray that this names. One that the user has for other work is none
# to train in.
_OF_OTHER_WORK: Final = frozenset({"RAY_ADDRESS"})


# By these a Python is known to be one of them, and by these extras they are installed.
_LIBRARIES: Final[Mapping[Environment, tuple[str, ...]]] = {
    Environment.TRAINER: ("torch", "transformers", "peft", "ray"),
    Environment.COMPRESSOR: ("llmcompressor",),
    Environment.SERVER: ("vllm",),
    Environment.EDGE: ("onnxruntime_genai", "cyllama", "litert_torch"),
}
_EXTRAS: Final[Mapping[Environment, str]] = {
    Environment.TRAINER: "trainer",
    Environment.COMPRESSOR: "compressor",
    Environment.SERVER: "serving-cpu",
    Environment.EDGE: "edge",
}
# `make setup` builds what every job needs; of these only what a job asks for.
_ON_DEMAND: Final = frozenset({Environment.EDGE})


def is_installed_here(library: str) -> bool:
    """Whether the running Python has that library; nothing is imported."""
    return find_spec(library) is not None


@dataclass(frozen=True, slots=True)
class Environments:
    """Virtual environments side by side in `root`, each called as its `Environment`.

    `has_library` tells what the running Python has, which stands in for what is not in `root`.
    """

    root: Path
    has_library: Callable[[str], bool] = is_installed_here

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
        if os.access(path, os.X_OK):
            return path
        lacking = [name for name in _LIBRARIES[environment] if not self.has_library(name)]
        if not lacking:
            return Path(sys.executable)
        command = f"make setup-{environment}" if environment in _ON_DEMAND else "make setup"
        raise EnvironmentMissing(
            f"the environment '{environment}' is not installed: no Python at {path}, and the "
            f"one that runs this lacks {', '.join(lacking)}; in the repository run: {command}; "
            f"elsewhere install 'tunesmith[{_EXTRAS[environment]}]' into an environment of that "
            f"name, and set {VARIABLE} to the folder that holds it"
        )

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
        if name not in _OF_THIS_PYTHON | _OF_OTHER_WORK and not _is_credential(name.upper(), value)
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


def _is_credential(name: str, value: str) -> bool:
    if _SECRET.search(name):
        return True
    return _URL_WITH_PASSWORD.search(value) is not None and not _PROXY.search(name)
