"""The search as `tuner` asks it: which settings are next, which trial ends, what became of one."""

import time
from collections.abc import Sequence
from typing import Final

from tunesmith_api.finetunejob.search import Search
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.search_space import Dimension, grid_of, with_parameters
from tunesmith_engine.stages.trial_records import TrialOrigin, TrialRecord
from tunesmith_trainer.search.memory_turns import MemoryTurns
from tunesmith_trainer.search.proposals import propose
from tunesmith_trainer.search.pruning import is_pruned
from tunesmith_trainer.search.ranking import best_trial
from tunesmith_trainer.search.single_process import in_one_process
from tunesmith_trainer.search.termination import Termination
from tunesmith_trainer.search.trial_run import (
    RunEnd,
    RunPoint,
    RunTask,
    completed_record,
    with_measurement,
)
from tunesmith_trainer.search.trial_store import TrialStore

_DIED: Final = "StageCrashed: the process of the trial has ended, of too little memory perhaps"


class TrialSource:
    """A `RunSource`; `memory` has its turns among the sampler's."""

    def __init__(
        self,
        request: StageRequest,
        search: Search,
        space: Sequence[Dimension],
        *,
        store: TrialStore,
        reporter: Reporter,
        first_rung: int,
        memory: MemoryTurns,
    ) -> None:
        self._request = request
        self._search = search
        self._space = space
        self._store = store
        self._reporter = reporter
        self._first_rung = search.pruner.min_tokens or first_rung if search.pruner else first_rung
        self._memory = memory
        self.termination = Termination(search, space)
        budget = search.budget
        self._grid = (
            grid_of(space, max_trials=budget.max_trials) if search.method == "grid" else None
        )
        self._num_trials = len(self._grid) if self._grid is not None else budget.max_trials
        # Those that a killed attempt has begun go first, and on from their checkpoints.
        self._left = [trial for trial in store.trials if not trial.has_ended]
        self._reasons: dict[int, str] = {}
        self._begun = time.monotonic()
        self._num_ended_before = sum(trial.has_ended for trial in store.trials)

    def next_task(self) -> RunTask | None:
        """The next trial, unless the budget is spent; one whose values clash fails at once."""
        while self._spent() is None:
            trial = self._left.pop(0) if self._left else self._proposed()
            if trial is None:
                return None
            try:
                spec = in_one_process(with_parameters(self._request.spec, trial.parameters))
            except BadInputError as error:
                failed = {"state": "failed", "reason": f"{error.reason}: {error.message}"}
                self._store.write(trial.model_copy(update=failed))
                continue
            self._store.write(trial.model_copy(update={"seed": spec.training.seed}))
            self._tell()
            return self._task(trial.number, spec)
        return None

    def is_over_at(self, number: int, point: RunPoint) -> bool:
        """Note a measurement; whether the trial is pruned, or the budget spent."""
        trial = with_measurement(self._store[number], point, value=point["value"]).model_copy(
            update={
                "tokens": point["tokens"],
                "seconds": point["seconds"],
                "num_steps": point["step"],
            }
        )
        self._store.note(trial)
        self._tell()
        if point["step"] >= point["num_steps"]:
            return False
        reason = self._spent() or (
            "pruned" if point["is_warm"] and self._is_pruned(trial) else None
        )
        if reason is not None:
            self._reasons[number] = reason
        return reason is not None

    def ended(self, number: int, end: RunEnd | None) -> None:
        """Keep what became of a trial; one that was left goes on in the next attempt."""
        if end is not None and end["kind"] == "left":
            return
        trial = self._store[number]
        reason = self._reasons.pop(number, None)
        if reason is not None:
            update: dict[str, object] = {"state": "pruned", "reason": reason}
            update["objectives"] = {"heldOutLoss": trial.intermediates[-1].value}
        elif end is None:
            update = {"state": "failed", "reason": _DIED}
        elif end["kind"] != "completed":
            update = {"state": end["kind"], "reason": end["reason"]}
        else:
            trial, update = completed_record(trial, end), {}
        self._write_ended(trial.model_copy(update=update))
        self._tell()

    def _write_ended(self, trial: TrialRecord) -> None:
        """Keep the record, and of the best trial its weights, where the job takes those."""
        self._store.note(trial)
        best = best_trial(self._store.trials, self._search.objectives)
        is_kept = not self._search.refit and best is not None and best.number == trial.number
        if is_kept:
            self._store.keep_weights(trial.number)
        self._store.write(trial)
        if is_kept:
            # NB: after the record. Killed in between, the best one would have lost its weights.
            self._store.drop_weights(but=trial.number)

    def _proposed(self) -> TrialRecord | None:
        number = len(self._store.trials)
        if number >= self._num_trials or self.termination.is_over(self._store.trials):
            return None
        origin = TrialOrigin()
        if self._grid is not None:
            parameters = self._grid[number]
        else:
            trials, given = self._store.trials, self._memory.proposal(self._store.trials)
            if given is not None:
                origin = TrialOrigin(kind="memory", source_job=given.source)
            settings = given.settings if given is not None else None
            parameters = propose(self._search, self._space, trials, number=number, given=settings)
        return TrialRecord(number=number, parameters=parameters, state="running", origin=origin)

    def _task(self, number: int, spec: FineTuneJobSpec) -> RunTask:
        output = str(self._store.folder(number))
        request = self._request.model_copy(update={"spec": spec, "output": output})
        return RunTask(
            number=number,
            request=request.model_dump_json(by_alias=True),
            train=None,
            validation=None,
        )

    def _spent(self) -> str | None:
        """Which bound of the budget is reached."""
        budget, trials = self._search.budget, self._store.trials
        if budget.max_tokens and sum(trial.tokens for trial in trials) >= budget.max_tokens:
            return "search.budget.maxTokens is spent"
        if budget.max_seconds and sum(trial.seconds for trial in trials) >= budget.max_seconds:
            return "search.budget.maxSeconds is spent"
        return None

    def _is_pruned(self, trial: TrialRecord) -> bool:
        pruner = self._search.pruner
        others = [
            other.intermediates for other in self._store.trials if other.number != trial.number
        ]
        return pruner is not None and is_pruned(
            pruner, trial.intermediates, others, first_rung=self._first_rung
        )

    def _tell(self) -> None:
        trials = self._store.trials
        num_ended = sum(trial.has_ended for trial in trials)
        best = best_trial(trials, self._search.objectives)
        metric = self._search.objectives[0].metric
        told = f"; best {metric} {best.objectives[metric]:.4f}, trial {best.number}" if best else ""
        done_now = num_ended - self._num_ended_before
        pace = (time.monotonic() - self._begun) / done_now if done_now else None
        self._reporter.progress(
            f"trials: {num_ended} of {self._num_trials} done{told}",
            step=num_ended,
            total_steps=self._num_trials,
            eta_s=pace * (self._num_trials - num_ended) if pace is not None else None,
            metrics={metric: best.objectives[metric]} if best else None,
        )
