"""The package's commands.

`python -m tunesmith_serving verify REQUEST` runs the stage, `… serve FOLDER` serves a model,
`… fetch URI FOLDER` gets it from an object store before, and `… drain --deadline S` waits until a
served model has nothing under way. `… generate FOLDER` answers batches of requests.
"""

import sys
from collections.abc import Callable
from typing import Final

from tunesmith_engine.stages.entry import main
from tunesmith_serving.fetch import fetch
from tunesmith_serving.generate import generate
from tunesmith_serving.replica.drain import drain
from tunesmith_serving.serve import serve

_COMMANDS: Final[dict[str, Callable[[list[str]], int]]] = {
    "drain": drain,
    "fetch": fetch,
    "generate": generate,
    "serve": serve,
}

if __name__ == "__main__":
    name, *rest = sys.argv[1:] or [""]
    sys.exit(_COMMANDS[name](rest) if name in _COMMANDS else main([name, *rest]))
