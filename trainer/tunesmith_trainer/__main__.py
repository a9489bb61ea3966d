"""`python -m tunesmith_trainer STAGE REQUEST`: run one stage of a job in this environment."""

import signal
import sys
from types import FrameType
from typing import NoReturn

from tunesmith_engine.stages.entry import main


def end_cleanly(number: int, _frame: FrameType | None) -> NoReturn:
    """End as an exception would, so that folders are swept and child processes are ended."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end_cleanly)
    sys.exit(main(sys.argv[1:]))
