"""What stands for the server environment's Python: `serve FOLDER` becomes a stand-in engine.

`FOLDER/stand-in.json` holds what the engine is to do: options of `stand_in_engine.py` by name.
"""

import argparse
import json
import os
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent
OPTIONS = "stand-in.json"


def main() -> None:
    """Become the engine."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-m", dest="module", choices=["tunesmith_serving"], required=True)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("folder", type=Path)
    for name in ("host", "port", "name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--revision", default="0")
    parser.add_argument("--compare-with")
    parser.add_argument("--compare-fraction")
    parser.add_argument("--digest")
    parser.add_argument("--adapters")
    # The settings of an engine are none of a stand-in's.
    given, _ = parser.parse_known_args()
    options = json.loads((given.folder / OPTIONS).read_text())
    if options.pop("refused", False):
        sys.exit(2)
    command = [sys.executable, str(SUPPORT / "stand_in_engine.py")]
    command += ["--host", given.host, "--port", given.port, "--revision", given.revision]
    command += ["--model", given.name, "--version", given.folder.name]
    if given.compare_with:
        command += ["--compare-with", given.compare_with]
        command += ["--compare-fraction", given.compare_fraction]
    command += ["--lora", "--digest", given.digest] if given.adapters else []
    for name, value in options.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    os.execv(command[0], command)  # noqa: S606 - an argument list, no shell


if __name__ == "__main__":
    main()
