"""The folds as `tuner` asks for them: each is run once, and a killed stage repeats none."""

from collections.abc import Sequence
from typing import Final

from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_engine.stages.trial_records import TrialRecord
from tunesmith_trainer.search.single_process import in_one_process
from tunesmith_trainer.search.trial_run import (
    RunEnd,
    RunPoint,
    RunTask,
    completed_record,
    with_measurement,
)
from tunesmith_trainer.search.trial_store import TrialStore

_DIED: Final = "StageCrashed: the process of the fold has ended, of too little memory perhaps"


class FoldSource:
    """A `RunSource`; a fold is a record without parameters."""

    def __init__(
        self,
        request: StageRequest,
        folds: Sequence[Sequence[int]],
        *,
        store: TrialStore,
        reporter: Reporter,
    ) -> None:
        self._request = request
        self._folds = folds
        self._store = store
        self._reporter = reporter
        ended = {fold.number for fold in store.trials if fold.has_ended}
        self._left = [number for number in range(len(folds)) if number not in ended]

    def next_task(self) -> RunTask | None:
        """The next fold; none behind one that has failed: without it there is no mean."""
        if not self._left or any(fold.state == "failed" for fold in self._store.trials):
            return None
        number = self._left.pop(0)
        spec = in_one_process(self._request.spec)
        self._store.write(
            TrialRecord(number=number, parameters={}, state="running", seed=spec.training.seed)
        )
        request = self._request.model_copy(
            update={"spec": spec, "output": str(self._store.folder(number))}
        )
        held_out = set(self._folds[number])
        num_rows = sum(map(len, self._folds))
        return RunTask(
            number=number,
            request=request.model_dump_json(by_alias=True),
            train=[row for row in range(num_rows) if row not in held_out],
            validation=sorted(held_out),
        )

    def is_over_at(self, number: int, point: RunPoint) -> bool:
        """Note a measurement; every fold runs to its end."""
        self._store.note(with_measurement(self._store[number], point, value=point["loss"]))
        self._tell()
        return False

    def ended(self, number: int, end: RunEnd | None) -> None:
        """Keep what became of a fold; one that was left goes on in the next attempt."""
        if end is not None and end["kind"] == "left":
            return
        fold = self._store[number]
        if end is None or end["kind"] != "completed":
            reason = end["reason"] if end is not None else _DIED
            self._store.write(fold.model_copy(update={"state": "failed", "reason": reason}))
        else:
            self._store.write(completed_record(fold, end))
        self._tell()

    def _tell(self) -> None:
        done = [fold for fold in self._store.trials if fold.has_ended]
        self._reporter.progress(
            f"folds: {len(done)} of {len(self._folds)} done",
            step=len(done),
            total_steps=len(self._folds),
        )
