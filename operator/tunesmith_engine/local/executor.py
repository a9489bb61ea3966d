"""The executor of one machine: a process per stage, told by files what to do and how far it is.

It sees and does, and decides nothing: `advance` reads what `observe` saw and says what `apply`
shall do. Both may be repeated at any time. What it knows lies in the job's folder, so that a run
that follows a killed one sees the same.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from pydantic import ValidationError

from tunesmith_api.finetunejob.status import Progress
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import (
    Action,
    AttemptSeen,
    Observations,
    Start,
    Stop,
    StopCause,
)
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.home import AttemptFolder, Home, StageFolder
from tunesmith_engine.local.processes import StageProcess, end_leftovers, read_record, write_record
from tunesmith_engine.local.results import read_result, sound_result
from tunesmith_engine.local.stage_environment import stage_environment
from tunesmith_engine.planning.plan import Plan, PlannedStage
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_engine.stages.termination_message import termination_message

_LOG = logging.getLogger(__name__)

_CAUSES: Final[Mapping[StopCause, Reason]] = {
    "Suspended": Reason.SUSPENDED,
    "Interrupted": Reason.INTERRUPTED,
    "DeadlineExceeded": Reason.DEADLINE_EXCEEDED,
    "Superseded": Reason.INTERRUPTED,
}

_TAIL_BYTES: Final = 4096

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt of this run whose end was not seen yet."""

    stage: StageName
    key: str
    folder: AttemptFolder
    process: StageProcess


class LocalExecutor:
    """Runs the stages of one plan; only one may work in a job's folder at a time."""

    def __init__(self, plan: Plan, *, home: Home, environments: Environments, base: Path) -> None:
        self._plan = plan
        self._home = Home(home.root.resolve())
        self._environments = environments
        self._base = base.resolve()
        self._running: list[Running] = []
        self._judged: dict[Path, tuple[_Stamp, StageResult | None]] = {}

    def recover(self) -> None:
        """End what a killed run has left running, whatever stage and key it was of."""
        stages = self._home.job(self._plan.job) / "stages"
        folders = [
            AttemptFolder(path.parent) for path in stages.glob("*/*/attempts/*/process.json")
        ]
        records = {folder: record for folder in folders if (record := read_record(folder))}
        open_ones = {each: record for each, record in records.items() if not record.has_ended}
        known = [record.identity for record in open_ones.values() if record.identity]
        end_leftovers(stages, known=known)
        for folder, record in open_ones.items():
            _LOG.info("%s was lost together with the run that had started it", folder.path)
            ended = {"has_ended": True, "cause": Reason.INTERRUPTED}
            write_record(folder, record.model_copy(update=ended))

    def observe(self, *, stop_asked: bool = False) -> Observations:
        """Everything that is to be seen now."""
        running = {each.folder.path: each for each in self._still_running()}
        attempts = [self._attempt_seen(stage, running) for stage in self._plan.stages]
        found = {stage.key: self._finished(stage, running) for stage in self._plan.stages}
        return Observations(
            finished={key: result for key, result in found.items() if result is not None},
            attempts=tuple(each for each in attempts if each is not None),
            stop_asked=stop_asked,
        )

    def apply(self, actions: Iterable[Action]) -> None:
        """Do what was decided."""
        for action in actions:
            match action:
                case Start():
                    self._start(action)
                case Stop():
                    self._stop(action)
                case _:
                    assert_never(action)

    def close(self) -> None:
        """End every stage that still runs, without asking."""
        for each in self._running:
            each.process.kill()
        self._still_running()

    def _start(self, action: Start) -> None:
        stage = self._plan.stage(action.stage)
        kept = self._folder(stage)
        folder = kept.attempt(action.attempt)
        if folder.process.exists() or any(each.folder == folder for each in self._running):
            return
        folder.path.mkdir(parents=True, exist_ok=True)
        # A result that no longer holds must not come true again while its stage is being redone.
        kept.result.unlink(missing_ok=True)
        request = self._request(stage, folder=folder, attempt=action.attempt)
        write_atomically(folder.request, request.model_dump_json(by_alias=True, indent=1))
        python = self._environments.python(stage.environment)
        process = StageProcess(
            [str(python), "-m", stage.stage.package, stage.name, str(folder.request)],
            folder=folder,
            environment=stage_environment(os.environ, attempt=folder.path),
        )
        self._running.append(Running(stage.name, stage.key, folder, process))

    def _stop(self, action: Stop) -> None:
        folder = self._home.stage(self._plan.job, stage=action.stage, key=action.key)
        for each in self._running:
            if each.folder == folder.attempt(action.attempt):
                each.process.stop(_CAUSES[action.because])

    def _request(self, stage: PlannedStage, *, folder: AttemptFolder, attempt: int) -> StageRequest:
        found = {each.name: self._finished(each, {}) for each in self._plan.read_by(stage)}
        return StageRequest(
            job=self._plan.job,
            stage=stage.name,
            key=stage.key,
            attempt=attempt,
            spec=self._plan.spec,
            inputs={name: result for name, result in found.items() if result is not None},
            stage_keys={each.name: each.key for each in self._plan.stages},
            output=str(self._folder(stage).artifacts),
            report=str(folder.progress),
            result=str(folder.result),
            base=str(self._base),
            cache=str(self._home.cache),
            secrets=str(self._home.secrets),
            models=str(self._home.models),
        )

    def _still_running(self) -> list[Running]:
        self._running = [each for each in self._running if each.process.poll()]
        return self._running

    def _attempt_seen(
        self, stage: PlannedStage, running: Mapping[Path, Running]
    ) -> AttemptSeen | None:
        folder = self._latest(stage)
        if folder is None:
            return None
        is_running = folder.path in running
        record = None if is_running else read_record(folder)
        result = None if is_running else read_result(folder.result)
        return AttemptSeen(
            stage=stage.name,
            key=stage.key,
            attempt=folder.number,
            is_running=is_running,
            progress=_progress(folder),
            result=result,
            exit_code=record.exit_code if record else None,
            cause=record.cause if record else None,
            termination_message=""
            if is_running or result
            else termination_message(_end_of(folder.log)),
            log=str(folder.log),
        )

    def _finished(self, stage: PlannedStage, running: Mapping[Path, Running]) -> StageResult | None:
        """The kept result, or else that of the latest attempt, which is kept from now on."""
        kept, latest = self._folder(stage).result, self._latest(stage)
        result = self._judge(kept, stage)
        if result is not None or latest is None or latest.path in running:
            return result
        result = self._judge(latest.result, stage)
        if result is not None:
            write_atomically(kept, result.model_dump_json(by_alias=True, indent=1))
        return result

    def _judge(self, path: Path, stage: PlannedStage) -> StageResult | None:
        """Judge a result once for as long as its file stays the same."""
        stamp = _stamp(path)
        if stamp is None:
            return None
        before = self._judged.get(path)
        if before is None or before[0] != stamp:
            result = sound_result(path, stage=stage.name, key=stage.key)
            self._judged[path] = stamp, result
            return result
        return before[1]

    def _folder(self, stage: PlannedStage) -> StageFolder:
        return self._home.stage(self._plan.job, stage=stage.name, key=stage.key)

    def _latest(self, stage: PlannedStage) -> AttemptFolder | None:
        """The latest attempt that has a process or had one."""
        started = [each for each in self._folder(stage).attempts() if each.process.exists()]
        return started[-1] if started else None


def _progress(folder: AttemptFolder) -> Progress | None:
    """What the stage said last; what cannot be read is lost without harm."""
    try:
        return Progress.model_validate_json(folder.progress.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _end_of(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
