"""`python -S -m fake_stages STAGE REQUEST`: behave as the file `behaviour.json` in `base` says.

It maps a stage to what its attempts do, in order; the last one is repeated. Every start is a line
in `diary.txt`. What needs the entry of a real stage is in `through_entry.py`; the rest starts in a
moment, since it imports nothing.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LONG_S = 60.0
# `hashlib.sha256(b"made")`; to import hashlib would take longer than all the rest.
_MADE = "sha256:ea0890697a77af0a2e054cccec587c8a42feb5cf38e778c6c6e2a96bfb945c0b"


def main(stage: str, path: str) -> int:
    request = json.loads(Path(path).read_text())
    diary = Path(request["base"]) / "diary.txt"
    _write(diary, f"start {stage} {request['attempt']} {os.getpid()}")
    match _behaviour(request):
        case "succeed":
            _succeed(request)
        case "vanish":
            return 7
        case "unloadable":
            importlib.import_module("not.there")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leave":
            _start_daemon(diary)
            _succeed(request)
        case "hang":
            _start_daemon(diary)
            time.sleep(LONG_S)
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _start_daemon(diary)
            time.sleep(LONG_S)
        case "orderly":
            _end_in_order(diary)
            time.sleep(LONG_S)
        case behaviour:
            return _through_entry(behaviour, path)
    return 0


def _behaviour(request: dict[str, Any]) -> str:
    wishes = json.loads((Path(request["base"]) / "behaviour.json").read_text())
    wished = wishes.get(request["stage"], ["succeed"])
    return str(wished[min(request["attempt"], len(wished)) - 1])


def _succeed(request: dict[str, Any]) -> None:
    made = Path(request["output"]) / "made.txt"
    made.parent.mkdir(exist_ok=True)
    made.write_text("made")
    artifact = {"name": "made", "uri": made.as_uri(), "digest": _MADE, "bytes": 4}
    same = {name: request[name] for name in ("stage", "key", "attempt")}
    told = {"outcome": "Succeeded", "reason": "Succeeded", "artifacts": [artifact]}
    Path(request["result"]).write_text(json.dumps({**same, **told}))


def _start_daemon(diary: Path) -> None:
    """Like Ray's and vLLM's: a session of its own, and deaf to SIGTERM."""
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"print('ready', flush=True); time.sleep({LONG_S})"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-S", "-c", code], start_new_session=True, stdout=subprocess.PIPE
    )
    assert daemon.stdout is not None
    daemon.stdout.readline()
    _write(diary, f"daemon {daemon.pid}")


def _end_in_order(diary: Path) -> None:
    """Like training: told to end, it needs what it has started for a moment more."""
    daemon = subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({LONG_S})"])

    def end(*_: object) -> None:
        time.sleep(0.3)
        _write(diary, "daemon is gone" if daemon.poll() is not None else "daemon is there")
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    _write(diary, f"daemon {daemon.pid}")


def _through_entry(behaviour: str, path: str) -> int:
    import site

    site.main()
    from fake_stages.through_entry import run

    return run(behaviour, path)


def _write(diary: Path, line: str) -> None:
    with diary.open("a") as file:
        file.write(f"{line}\n")


sys.exit(main(*sys.argv[1:]))
