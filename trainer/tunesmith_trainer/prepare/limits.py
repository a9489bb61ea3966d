"""Whether the job fits where it runs, by the engine's estimate: asked before anything is made.

Asked twice: before the model is converted, for what is too large however short the rows are, and
once the longest row is known. On one machine every stage is judged by it. In a cluster only this
one is: the others are judged by what their pods are given.
"""

from pathlib import Path

from tunesmith_engine.capacity import (
    Shortage,
    shortage_of_given,
    shortage_of_memory,
    shortage_of_room,
    unjudged_memory,
)
from tunesmith_engine.estimates import SHORTEST_ROW, Estimate, estimate
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.contracts import StageName, StageRequest
from tunesmith_engine.stages.errors import BadInputError


def refuse_too_large(request: StageRequest, facts: ModelFacts) -> None:
    """Return if there is room for the job, should its rows be short.

    Raises:
        BadInputError: the estimate of a stage exceeds the memory, or that of all the free disk.
    """
    needed = estimate(request.spec, facts, longest_row=SHORTEST_ROW)
    here, folder = _stages_here(request, needed), Path(request.output)
    _refuse(shortage_of_room(needed, stages=here, folder=folder, has_bytes=0))
    _refuse(shortage_of_given(needed, request.memory or {}))


def refuse_too_long(request: StageRequest, facts: ModelFacts, *, longest_row: int) -> None:
    """Return if there is memory to train on a row of `longest_row` tokens.

    Raises:
        BadInputError: there is not.
    """
    needed = estimate(request.spec, facts, longest_row=longest_row)
    _refuse(shortage_of_memory(needed, stages=_stages_here(request, needed)))
    _refuse(shortage_of_given(needed, request.memory or {}))


def note_on_memory(request: StageRequest, facts: ModelFacts, *, longest_row: int) -> str | None:
    """What training will take, where nobody could judge whether it gets that."""
    if request.memory is None:
        return None
    return unjudged_memory(
        estimate(request.spec, facts, longest_row=longest_row),
        request.memory,
        on_accelerators=request.spec.resources.gpus_per_worker > 0,
    )


def _stages_here(request: StageRequest, needed: Estimate) -> frozenset[StageName]:
    return frozenset(needed.memory_bytes if request.memory is None else [request.stage])


def _refuse(shortage: Shortage | None) -> None:
    if shortage is not None:
        raise BadInputError(shortage.reason, shortage.message)
