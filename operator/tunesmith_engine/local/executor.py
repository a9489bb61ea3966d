"""The executor of one machine: a process per stage, told by files what to do and how far it is.

It sees and does, and decides nothing: `advance` reads what `observe` saw and says what `apply`
shall do. Both may be repeated at any time. What it knows lies in the job's folder, so that a run
that follows a killed one sees the same.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, assert_never

from pydantic import ValidationError

from tunesmith_api.finetunejob.status import Progress
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import (
    Action,
    Observations,
    ObservedAttempt,
    Start,
    Stop,
    StopCause,
)
from tunesmith_engine.local.environments import Environments, stage_variables
from tunesmith_engine.local.home_folder import AttemptFolder, HomeFolder, StageFolder
from tunesmith_engine.local.job_memory import recall
from tunesmith_engine.local.processes import (
    StageProcess,
    read_record,
    terminate_leftovers,
    write_record,
)
from tunesmith_engine.local.results import ResultCache, read_result
from tunesmith_engine.planning.plan import Plan, PlannedStage
from tunesmith_engine.stages.catalog import PREPARE, SEARCH
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_engine.stages.termination_message import termination_message

_LOG = logging.getLogger(__name__)

_CAUSES: Final[Mapping[StopCause, Reason]] = {
    "Suspended": Reason.SUSPENDED,
    "Interrupted": Reason.INTERRUPTED,
    "DeadlineExceeded": Reason.DEADLINE_EXCEEDED,
    "Superseded": Reason.INTERRUPTED,
}

# Enough for the last line of a traceback, however long the log is.
_TAIL_BYTES: Final = 4096


class LocalExecutor:
    """Runs the stages of one plan; only one may work in a job's folder at a time."""

    def __init__(
        self, plan: Plan, *, home: HomeFolder, environments: Environments, base: Path
    ) -> None:
        self._plan = plan
        self._home = HomeFolder(home.root.resolve())
        self._environments = environments
        self._base = base.resolve()
        # Attempts that this executor started and whose end it has not seen yet.
        self._running: dict[AttemptFolder, StageProcess] = {}
        self._results = ResultCache()

    def recover(self) -> None:
        """End what a killed run has left running, whatever stage and key it was of."""
        # NB: before the first `observe`. An attempt of an earlier run counts as ended there: this
        # executor is not its parent, and could not tell how it ended.
        stages = self._home.job(self._plan.job) / "stages"
        folders = [
            AttemptFolder(path.parent) for path in stages.glob("*/*/attempts/*/process.json")
        ]
        records = {
            folder: record
            for folder in folders
            if (record := read_record(folder)) and not record.has_ended
        }
        known = [record.identity for record in records.values() if record.identity]
        terminate_leftovers(stages, known=known)
        for folder, record in records.items():
            _LOG.info("%s was lost together with the run that had started it", folder.path)
            ended = {"has_ended": True, "cause": Reason.INTERRUPTED}
            write_record(folder, record.model_copy(update=ended))

    def observe(self, *, stop_requested: bool = False) -> Observations:
        """Everything that is to be seen now."""
        # NB: first. A process that ends while its files are read has not ended for this look: its
        # result counts at the next one, when all that it has written is there.
        self._reap()
        finished, attempts = {}, []
        for stage in self._plan.stages:
            latest = self._latest_attempt(stage)
            if latest is not None:
                attempts.append(self._observe_attempt(stage, latest))
            result = self._finished_result(stage)
            if result is not None:
                finished[stage.key] = result
        return Observations(
            finished=finished, attempts=tuple(attempts), stop_requested=stop_requested
        )

    def apply(self, actions: Iterable[Action]) -> None:
        """Do what was decided."""
        for action in actions:
            match action:
                case Start():
                    self._start(action)
                case Stop():
                    folder = self._home.stage(self._plan.job, stage=action.stage, key=action.key)
                    process = self._running.get(folder.attempt(action.attempt))
                    if process is not None:
                        process.stop(_CAUSES[action.because])
                case _:
                    assert_never(action)

    def close(self) -> None:
        """Kill every stage that still runs, without asking, and write down that it has ended."""
        for process in self._running.values():
            process.kill()
        self._reap()

    def _start(self, action: Start) -> None:
        stage = self._plan.stage(action.stage)
        stage_folder = self._folder(stage)
        folder = stage_folder.attempt(action.attempt)
        # A start is asked for until it is seen: what was started once is not started again.
        if folder in self._running or folder.process.exists():
            return
        folder.path.mkdir(parents=True, exist_ok=True)
        # A result that no longer holds must not come true again while its stage is being redone.
        stage_folder.result.unlink(missing_ok=True)
        request = self._request(stage, folder=folder)
        write_atomically(folder.request, request.model_dump_json(by_alias=True, indent=1))
        python = self._environments.python(stage.environment)
        self._running[folder] = StageProcess(
            [str(python), "-m", stage.stage.package, stage.name, str(folder.request)],
            folder=folder,
            environment=stage_variables(os.environ, attempt=folder.path),
        )

    def _request(self, stage: PlannedStage, *, folder: AttemptFolder) -> StageRequest:
        results = {read.name: self._finished_result(read) for read in self._plan.read_by(stage)}
        told = (
            recall(self._plan, results.get(PREPARE.name), home=self._home)
            if stage.name == SEARCH.name
            else None
        )
        return StageRequest(
            job=self._plan.job,
            stage=stage.name,
            key=stage.key,
            attempt=folder.number,
            spec=self._plan.spec,
            inputs={name: result for name, result in results.items() if result is not None},
            stage_keys={planned.name: planned.key for planned in self._plan.stages},
            output=str(self._folder(stage).artifacts),
            report=str(folder.progress),
            result=str(folder.result),
            base=str(self._base),
            cache=str(self._home.cache),
            secrets=str(self._home.secrets),
            models=str(self._home.models),
            recalled=told,
        )

    def _reap(self) -> None:
        """Forget the processes that have ended; what they had started is ended with them."""
        self._running = {
            folder: process for folder, process in self._running.items() if process.poll()
        }

    def _observe_attempt(self, stage: PlannedStage, folder: AttemptFolder) -> ObservedAttempt:
        attempt = ObservedAttempt(
            stage=stage.name,
            key=stage.key,
            attempt=folder.number,
            is_running=folder in self._running,
            progress=_read_progress(folder),
            log=str(folder.log),
        )
        if attempt.is_running:
            return attempt
        record, result = read_record(folder), read_result(folder.result)
        return replace(
            attempt,
            result=result,
            exit_code=record.exit_code if record else None,
            cause=record.cause if record else None,
            termination_message="" if result else termination_message(_read_tail(folder.log)),
        )

    def _finished_result(self, stage: PlannedStage) -> StageResult | None:
        """The kept result, or else that of the latest attempt, which is kept from now on."""
        # The attempt's own file is never a result that counts while its process runs: what the
        # process does after it has written it, such as ending Ray, belongs to the attempt.
        kept, latest = self._folder(stage).result, self._latest_attempt(stage)
        result = self._results.valid_result(kept, stage=stage.name, key=stage.key)
        if result is not None or latest is None or latest in self._running:
            return result
        result = self._results.valid_result(latest.result, stage=stage.name, key=stage.key)
        if result is not None:
            write_atomically(kept, result.model_dump_json(by_alias=True, indent=1))
        return result

    def _folder(self, stage: PlannedStage) -> StageFolder:
        return self._home.stage(self._plan.job, stage=stage.name, key=stage.key)

    def _latest_attempt(self, stage: PlannedStage) -> AttemptFolder | None:
        """The latest attempt that has a process or had one."""
        # A folder without `process.json` is of a run that was killed before it started anything.
        started = [folder for folder in self._folder(stage).attempts() if folder.process.exists()]
        return started[-1] if started else None


def _read_progress(folder: AttemptFolder) -> Progress | None:
    """What the stage reported last; what cannot be read is lost without harm."""
    try:
        return Progress.model_validate_json(folder.progress.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _read_tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            # The cut may fall into the middle of a character.
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
