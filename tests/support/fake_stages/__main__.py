"""`python -m fake_stages STAGE REQUEST`: behave as the file `behaviour.json` in `base` says.

It maps a stage to what its attempts do, in order; the last one is repeated. Every start and end is
a line in `diary.txt`, which shows when two ran at once.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageName, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.entry import main
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_engine.stages.outcome import StageOutcome
from tunesmith_engine.stages.reporter import Reporter

LONG_S = 60.0


def stage(request: StageRequest, reporter: Reporter) -> StageOutcome:
    base = Path(request.base)
    _write(base, f"start {request.stage} {request.attempt} {os.getpid()}")
    reporter.progress("working", step=1, total_steps=2)
    behaviour = _behaviour(base, request)
    try:
        _behave(behaviour, base)
    finally:
        if behaviour != "hang":
            _write(base, f"end {request.stage} {request.attempt} {os.getpid()}")
    made = Path(request.output) / "made.txt"
    made.write_text(f"{request.stage} {request.key} after {len(request.inputs)} stages")
    return StageOutcome(message="made", artifacts=[artifact_of("made", made)])


def _behaviour(base: Path, request: StageRequest) -> str:
    path = base / "behaviour.json"
    wishes = json.loads(path.read_text()).get(request.stage, ["succeed"])
    return str(wishes[min(request.attempt, len(wishes)) - 1])


def _behave(behaviour: str, base: Path) -> None:
    match behaviour:
        case "succeed":
            return
        case "crash":
            raise RuntimeError("as asked")
        case "vanish":
            os._exit(7)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "badInput":
            raise BadInputError(Reason.DATASET_INVALID, "train.jsonl:3: no messages")
        case "verdict":
            raise VerdictError(Reason.EVALUATION_GATE_FAILED, "worse than its base")
        case "fullDisk":
            raise OSError(errno.ENOSPC, "No space left on device")
        case "hang" | "leave":
            _start_daemon(base)
            time.sleep(LONG_S if behaviour == "hang" else 0.0)
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(LONG_S)


def _start_daemon(base: Path) -> None:
    """Like Ray's and vLLM's: a session of its own, and deaf to SIGTERM."""
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"print('ready', flush=True); time.sleep({LONG_S})"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE
    )
    assert daemon.stdout is not None
    daemon.stdout.readline()
    _write(base, f"daemon {daemon.pid}")


def _write(base: Path, line: str) -> None:
    with (base / "diary.txt").open("a") as file:
        file.write(f"{line}\n")


sys.exit(main(dict.fromkeys(StageName, stage), sys.argv[1:]))
