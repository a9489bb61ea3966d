"""The space of `spec.search` as memory sees it: what `search_space` reads, with coordinates."""

from tunesmith_api.finetunejob.search import MAXIMIZED, Search
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.search_memory.records import Direction
from tunesmith_engine.search_memory.space import Choices, Dimension, Only, Range, Space
from tunesmith_engine.stages import search_space


def space_of(spec: FineTuneJobSpec) -> Space:
    """The space that the job's search draws from.

    Raises:
        BadInputError: it is not sound.
    """
    read = {each.field: each for each in search_space.search_space(spec)}
    conditions = {
        each.field: Only(
            each.depends_on,
            frozenset(
                value
                for value in read[each.depends_on].grid
                if search_space.as_text(value) in each.is_in
            ),
        )
        for each in read.values()
        if each.depends_on is not None
    }
    return Space(tuple(map(_dimension, read.values())), conditions)


def direction_of(search: Search) -> Direction:
    """Which way the first objective is better; memory is about that one."""
    return "maximize" if search.objectives[0].metric in MAXIMIZED else "minimize"


def _dimension(read: search_space.Dimension) -> Dimension:
    if read.kind == "choice":
        return Choices(read.field, read.choices)
    return Range(
        read.field,
        read.low,
        read.high,
        is_log=read.is_log,
        is_int=read.kind == "int",
        step=read.step,
    )
