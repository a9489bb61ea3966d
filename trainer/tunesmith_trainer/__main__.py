"""`python -m tunesmith_trainer STAGE REQUEST`: run one stage of a job in this environment.

A stage's module is imported only when that stage runs: `prepare` pays neither for Ray nor for PEFT,
and the compressor's environment has no Ray.
"""

import signal
import sys
from importlib import import_module
from types import FrameType
from typing import NoReturn

from tunesmith_engine.stages.catalog import COMPRESS, EVALUATE, PREPARE, PUBLISH, TRAIN

from tunesmith_engine.stages.contracts import StageName, StageRequest
from tunesmith_engine.stages.entry import StageFunction, main
from tunesmith_engine.stages.outcome import StageOutcome
from tunesmith_engine.stages.reporter import Reporter

STAGES = (
    PREPARE.name,
    TRAIN.name,
    EVALUATE.name,
    COMPRESS.name,
    PUBLISH.name,
)


def stage_function(name: StageName) -> StageFunction:
    """The function of a stage, which imports the stage when it is called."""

    def run(request: StageRequest, reporter: Reporter) -> StageOutcome:
        module = import_module(f"tunesmith_trainer.{name}.stage")
        function: StageFunction = getattr(module, name)
        return function(request, reporter)

    return run


def end_cleanly(number: int, _frame: FrameType | None) -> NoReturn:
    """End as an exception would, so that folders are swept and child processes are ended."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end_cleanly)
    sys.exit(main({name: stage_function(name) for name in STAGES}, sys.argv[1:]))
