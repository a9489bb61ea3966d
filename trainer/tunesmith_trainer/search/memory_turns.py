"""Memory's part in a search: which trials are its, with which settings, and whom it has dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from pydantic import JsonValue

from tunesmith_api.finetunejob.search import Search
from tunesmith_engine.search_memory.guard import dropped_sources, is_memorys_turn
from tunesmith_engine.search_memory.proposals import (
    Observed,
    Proposal,
    most_proposals,
    proposals,
)
from tunesmith_engine.search_memory.recall import Recalled
from tunesmith_engine.search_memory.recording import task_of
from tunesmith_engine.search_memory.records import Task
from tunesmith_engine.search_memory.space import Space
from tunesmith_engine.search_memory.spec_space import space_of
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.trial_records import TrialRecord
from tunesmith_trainer.search.cluster_memory import recall_from_store
from tunesmith_trainer.search.trial_store import write_whole

_FOLDER: Final = "memory"
_FILE: Final = "recalled.json"


@dataclass(frozen=True, slots=True)
class MemoryTurns:
    """What is recalled, for one search; everything follows from that and the trials so far."""

    recalled: Recalled
    task: Task
    space: Space
    most: int
    metric: str

    def proposal(self, trials: Sequence[TrialRecord]) -> Proposal | None:
        """The next trial's settings, or None where it is the sampler's, or memory has no more."""
        if not self.recalled.neighbours:
            return None
        observed, direction = self._observed(trials), self.task.direction
        if not is_memorys_turn(observed, self.most, direction=direction):
            return None
        found = proposals(
            self.recalled.neighbours,
            self.task,
            self.space,
            self.most,
            observed=observed,
            dropped=dropped_sources(observed, direction=direction),
        )
        return found[0] if found else None

    def facts(self, trials: Sequence[TrialRecord]) -> dict[str, JsonValue]:
        """The jobs that were near, those whose settings were tried, and those that were dropped."""
        observed = self._observed(trials)
        near = dict.fromkeys(each.record.job for each in self.recalled.neighbours)
        tried = dict.fromkeys(trial.source for trial in observed if trial.source)
        dropped = dropped_sources(observed, direction=self.task.direction)
        return {
            "near": list(near),
            "tried": list(tried),
            "dropped": cast("list[JsonValue]", sorted(dropped)),
            "numTrials": sum(1 for trial in observed if trial.source),
        }

    def _observed(self, trials: Sequence[TrialRecord]) -> list[Observed]:
        return [
            Observed(
                settings=trial.parameters,
                value=trial.objectives.get(self.metric),
                source=trial.origin.source_job or "",
                is_done=trial.has_ended,
            )
            for trial in trials
        ]


def memory_turns(request: StageRequest, search: Search, *, kept: Path) -> MemoryTurns:
    """What memory said when the search began: a later attempt is told of other jobs, too.

    `kept` is the folder of the stage's checkpoints.
    """
    path = kept / _FOLDER / _FILE
    if path.exists():
        recalled = Recalled.model_validate_json(path.read_bytes())
    else:
        recalled = request.recalled or recall_from_store(request)
        write_whole(path, recalled.model_dump_json(by_alias=True, indent=1))
    prepared = request.inputs.get("prepare")
    return MemoryTurns(
        recalled=recalled,
        task=task_of(request.spec, prepared.facts if prepared else {}),
        space=space_of(request.spec),
        most=most_proposals(search),
        metric=search.objectives[0].metric,
    )
