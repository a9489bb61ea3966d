"""How often an attempt was begun: KubeRay starts a stage again by itself, and does not count.

It puts a new head in the place of one that is lost, and runs the stage there from its beginning, in
the same RayJob; so it does after Kueue has taken the quota back. The stage then goes on from its
newest checkpoint, and the attempt goes on with it. An attempt that only ever begins, for want of
memory say, ends here, and is counted as any that failed.
"""

import json
from pathlib import Path
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import CHECKPOINTS
from tunesmith_engine.stages.errors import TransientError
from tunesmith_engine.stages.reporter import write_atomically

STARTS: Final = ".starts.json"
MAX_STARTS: Final = 4


def count_start(record: Path, *, attempt: int, newest: int) -> None:
    """Count this start of `attempt`; `newest` is the step that it goes on from.

    Raises:
        TransientError: the attempt was begun so often without a checkpoint in between.
    """
    before = _read(record)
    is_again = (before.get("attempt"), before.get("step")) == (attempt, newest)
    starts = before.get("starts", 0) + 1 if is_again else 1
    if starts > MAX_STARTS:
        raise TransientError(
            Reason.KILLED,
            f"this attempt was started {MAX_STARTS} times and each time cut off before the next "
            "checkpoint; the events of its head pod say by what: more memory, or a smaller "
            "checkpoint.everySteps",
        )
    told = {"attempt": attempt, "step": newest, "starts": starts}
    write_atomically(record, json.dumps(told))


def newest_step(output: Path) -> int:
    """The step of the newest checkpoint below the output folder, 0 if there is none."""
    names = (path.name for path in (output / CHECKPOINTS).glob("step-*"))
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def _read(record: Path) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
