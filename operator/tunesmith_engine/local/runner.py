"""`run_job`: the whole of `tunesmith run` but its words.

Lock the job, read its sources, plan it, check that it can run here, and run its plan to the end.
Kill it at any point: the same call goes on from there.
"""

import logging
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_engine.capacity import (
    Shortage,
    accelerators_here,
    room_of_worker,
    shortage_of_accelerators,
    shortage_of_room,
)
from tunesmith_engine.estimates import (
    SHORTEST_ROW,
    estimate,
    longest_row_of,
    teacher_parameters_of,
)
from tunesmith_engine.lifecycle.advance import advance
from tunesmith_engine.lifecycle.runs import rerun
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.errors import MachineTooSmall
from tunesmith_engine.local.executor import LocalExecutor
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.job_memory import remember_job
from tunesmith_engine.local.locks import lock_job
from tunesmith_engine.planning.plan import Plan, PlannedStage, plan
from tunesmith_engine.sources.fingerprints import fingerprint_job
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.sources.resolver import local_model_path
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageName, StageResult
from tunesmith_engine.stages.digests import files_below
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)

# Between two looks at the job's processes and files. A person watches, and a look costs little.
POLL_S: Final = 0.1


class StopEvent(Protocol):
    """What a person's Ctrl-C sets; `threading.Event` is one."""

    def is_set(self) -> bool: ...


def run_job(
    job: FineTuneJob,
    *,
    manifest_text: str,
    base: Path,
    home: HomeFolder,
    environments: Environments,
    until: StageName | None = None,
    forced_from: StageName | None = None,
    watch: Callable[[FineTuneJobStatus], None],
    stop: StopEvent,
) -> FineTuneJobStatus:
    """Run the job up to and with `until`; return the status it has then.

    `base` is what relative file:// URIs start from. What was done before of the stages from
    `forced_from` on is thrown away, checkpoints too, and done anew. `watch` gets every new status.
    Once `stop` is set, the running stage is ended and the job stays unfinished. However this ends,
    no process of the job is left.

    Raises:
        JobBusy: another run of this job goes on.
        NoSuchStage: the job does not go through `until`, or not through `forced_from` up to there.
        EnvironmentMissing: a stage that has to run has no environment.
        MachineTooSmall: the job is estimated to need more memory or disk than there is.
        SourceError: the model or the data cannot be read.
    """
    name = job.metadata.name
    # Stages get absolute paths, and are found by them in /proc: resolved once, before either.
    home = HomeFolder(home.root.resolve())
    home.make()
    with lock_job(home.lock(name), job=name):
        fingerprints = fingerprint_job(job.spec, base=base, cache=home.cache, secrets=home.secrets)
        planned = plan(job, fingerprints=fingerprints, until=until)
        forced = planned.stages_from(forced_from) if forced_from else ()
        preflight(planned, home=home, environments=environments, base=base, forced=forced)
        write_atomically(home.manifest(name), manifest_text)
        executor = LocalExecutor(planned, home=home, environments=environments, base=base)
        try:
            executor.recover()
            for stage in forced:
                home.stage(name, stage=stage.name, key=stage.key).discard()
            status = run_plan(planned, executor, home=home, watch=watch, stop=stop)
            remember_job(job, status, home=home)
            return status
        finally:
            executor.close()


def run_plan(
    plan: Plan,
    executor: LocalExecutor,
    *,
    home: HomeFolder,
    watch: Callable[[FineTuneJobStatus], None],
    stop: StopEvent,
) -> FineTuneJobStatus:
    """Observe, decide, store and act until there is nothing to do; return the last status.

    `watch` gets every status that differs from the one before.
    """
    stored = home.read_status(plan.job)
    status = rerun(plan, stored, finished=executor.observe().finished)
    while True:
        seen = executor.observe(stop_requested=stop.is_set())
        decision = advance(plan, status, seen, now=datetime.now(UTC))
        status = decision.status
        # NB: stored before anything is started or stopped. A run that is killed in between is gone
        # on with from what it had decided, and starts nothing beside what it had started.
        if status != stored:
            home.write_status(plan.job, status)
            stored = status
            watch(status)
        executor.apply(decision.actions)
        is_over = status.is_finished or status.phase == Phase.SUSPENDED
        if is_over and not seen.running_attempts():
            return status
        time.sleep(POLL_S)


def preflight(
    planned: Plan,
    *,
    home: HomeFolder,
    environments: Environments,
    base: Path,
    forced: Collection[PlannedStage] = (),
) -> None:
    """Do nothing if every stage that is not done, or is done anew, can run on this machine.

    Before `prepare` has seen the rows, only what is too large however short they are is refused:
    it judges by the longest itself. So it does where the model is not on this machine yet.

    Raises:
        EnvironmentMissing: a stage that has to run has no environment.
        MachineTooSmall: the estimate exceeds the machine, or accelerators are missing.
    """
    results = {
        stage.name: None
        if stage in forced
        else home.result(planned.job, stage=stage.name, key=stage.key)
        for stage in planned.stages
    }
    # A machine that has become too small does not refuse to show what is done.
    to_run = [stage for stage in planned.stages if results[stage.name] is None]
    if not to_run:
        return
    environments.require(stage.environment for stage in to_run)
    shortage = shortage_here(planned, home=home, base=base)
    if shortage is not None:
        raise MachineTooSmall(shortage.reason, shortage.message)


def shortage_here(planned: Plan, *, home: HomeFolder, base: Path) -> Shortage | None:
    """What this machine lacks for the stages that are not done, as far as it is known by now."""
    results = {
        stage.name: home.result(planned.job, stage=stage.name, key=stage.key)
        for stage in planned.stages
    }
    to_run = frozenset(name for name, result in results.items() if result is None)
    resources = planned.spec.resources
    accelerators = accelerators_here(resources)
    if TRAIN.name in to_run:
        missing = shortage_of_accelerators(resources, accelerators)
        if missing is not None:
            return missing
    model = local_model_path(planned.spec.model, base=base, cache=home.cache)
    if model is None:
        _LOG.info("the model is not on this machine yet: prepare checks memory and disk")
        return None
    prepared = results[PREPARE.name]
    needed = estimate(
        planned.spec,
        read_model_facts(model),
        longest_row=longest_row_of(prepared) if prepared else SHORTEST_ROW,
        room=room_of_worker(resources, accelerators=accelerators),
        teacher=teacher_here(planned.spec, prepared, base=base, cache=home.cache),
    )
    return shortage_of_room(
        needed,
        stages=to_run,
        folder=home.root,
        has_bytes=_written(planned, home=home),
        accelerators=accelerators,
    )


def teacher_here(
    spec: FineTuneJobSpec, prepared: StageResult | None, *, base: Path, cache: Path
) -> int | None:
    """The size of the job's teacher, by `prepare` or as it lies on this machine."""
    if prepared is not None or spec.training.distillation is None:
        return teacher_parameters_of(prepared) if prepared else None
    path = local_model_path(spec.training.distillation.teacher.model, base=base, cache=cache)
    return read_model_facts(path).num_parameters if path else None


def _written(planned: Plan, *, home: HomeFolder) -> int:
    """Bytes that the stages have written already, and that take no more room."""
    return sum(
        path.stat().st_size
        for stage in planned.stages
        for path in files_below(home.stage(planned.job, stage=stage.name, key=stage.key).artifacts)
    )
