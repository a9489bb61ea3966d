"""What a search is told of earlier jobs when it begins."""

from collections.abc import Sequence

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob.search import Search
from tunesmith_engine.search_memory.distances import Neighbour, nearest
from tunesmith_engine.search_memory.proposals import most_proposals
from tunesmith_engine.search_memory.records import PastJob, Task


class Recalled(ApiModel):
    """The near jobs, the nearest first; `warning` says why there are none, where that is a fault.

    With their distances: those depend on all that was remembered, of which this is a part.
    """

    neighbours: list[Neighbour] = Field(default_factory=list)
    warning: str = ""


def recalled(records: Sequence[PastJob], task: Task, search: Search, *, own: str) -> Recalled:
    """What the search may start from; nothing of `own`, the uid of its earlier self."""
    if most_proposals(search) == 0:
        return Recalled()
    others = [record for record in records if record.uid != own]
    return Recalled(neighbours=list(nearest(others, task, num=search.memory.max_sources)))
