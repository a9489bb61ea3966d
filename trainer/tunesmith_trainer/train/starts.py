"""How often an attempt was started again, in a cluster where a lost head is replaced unseen.

KubeRay puts a new head in the place of a lost one, and runs the stage there from its beginning.
"""

import json
from pathlib import Path
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import TransientError
from tunesmith_engine.stages.remote_workspace import as_stage_errors
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.train.worker_workspace import newest_kept_step, open_workspace

MAX_STARTS: Final = 4

# The record in the stage's output folder, or at its place in the store.
STARTS: Final = ".starts.json"


def count_this_start(request: StageRequest) -> None:
    """Count that the stage was started with `request`.

    Raises:
        TransientError: too often without a checkpoint in between.
        StageError: the store cannot be read or written.
    """
    record, newest = Path(request.output) / STARTS, newest_kept_step(request)
    workspace = open_workspace(request)
    if workspace is None:
        count_start(record, attempt=request.attempt, newest=newest)
        return
    place = f"{workspace.home}/{STARTS}"
    with as_stage_errors():
        kept = workspace.store.read_text(place)
        if kept is not None:
            write_atomically(record, kept)
        count_start(record, attempt=request.attempt, newest=newest)
        workspace.store.write_text(place, record.read_text(encoding="utf-8"))


def count_start(record: Path, *, attempt: int, newest: int) -> None:
    """Count this start of `attempt`; `newest` is the step that it goes on from.

    An attempt that only ever begins, for want of memory say, ends here, and is counted as any that
    failed.

    Raises:
        TransientError: the attempt was begun so often without a checkpoint in between.
    """
    try:
        before: dict[str, int] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or spoilt: this start counts as the first
        before = {}
    is_again = (before.get("attempt"), before.get("step")) == (attempt, newest)
    starts = before.get("starts", 0) + 1 if is_again else 1
    if starts > MAX_STARTS:
        raise TransientError(
            Reason.KILLED,
            f"this attempt was started {MAX_STARTS} times and each time cut off before the next "
            "checkpoint; the events of its head pod say by what: more memory, or a smaller "
            "checkpoint.everySteps",
        )
    # NB: before anything else is done, or what is cut off early would never be counted.
    write_atomically(record, json.dumps({"attempt": attempt, "step": newest, "starts": starts}))
