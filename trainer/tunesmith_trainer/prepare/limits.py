"""Whether this machine can hold the job, by the engine's estimate: asked before anything is made.

Asked twice: before the model is converted, for what is too large however short the rows are, and
once the longest row is known.
"""

from pathlib import Path

from tunesmith_api.job import FineTuneJobSpec
from tunesmith_engine.estimates import SHORTEST_ROW, estimate
from tunesmith_engine.machine import Shortage, shortage_of_memory, shortage_of_room
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.contracts import StageName
from tunesmith_engine.stages.errors import BadInputError

_ALL = frozenset(StageName)


def refuse_too_large(spec: FineTuneJobSpec, facts: ModelFacts, *, folder: Path) -> None:
    """Return if the machine holds the job, should its rows be short.

    Raises:
        BadInputError: the estimate of a stage exceeds the memory, or that of all the free disk.
    """
    needed = estimate(spec, facts, longest_row=SHORTEST_ROW)
    _refuse(shortage_of_room(needed, stages=_ALL, folder=folder, has_bytes=0))


def refuse_too_long(spec: FineTuneJobSpec, facts: ModelFacts, *, longest_row: int) -> None:
    """Return if there is memory to train on a row of `longest_row` tokens.

    Raises:
        BadInputError: there is not.
    """
    _refuse(shortage_of_memory(estimate(spec, facts, longest_row=longest_row), stages=_ALL))


def _refuse(shortage: Shortage | None) -> None:
    if shortage is not None:
        raise BadInputError(shortage.reason, shortage.message)
