"""`run_job`: the whole of `tunesmith run` but its words.

Lock the job, read its sources, plan it, check that it can run here, and drive it to its end. Kill
it at any point: the same call goes on from there.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_engine.capacity import shortage_of_room
from tunesmith_engine.estimates import SHORTEST_ROW, estimate, longest_row_of
from tunesmith_engine.local.driving import StopAsked, drive
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.errors import MachineTooSmall
from tunesmith_engine.local.executor import LocalExecutor
from tunesmith_engine.local.home import Home
from tunesmith_engine.local.locks import only_run
from tunesmith_engine.planning.plan import Plan, PlannedStage, plan
from tunesmith_engine.sources.fingerprints import fingerprint_job
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.sources.models import local_model_path
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import StageName
from tunesmith_engine.stages.digests import files_below
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)


def run_job(
    job: FineTuneJob,
    *,
    manifest_text: str,
    base: Path,
    home: Home,
    environments: Environments,
    until: StageName | None = None,
    watch: Callable[[FineTuneJobStatus], None],
    stop: StopAsked,
) -> FineTuneJobStatus:
    """Run the job up to and with `until`; return the status it has then.

    `base` is what relative file:// URIs start from. `watch` gets every new status. Once `stop` is
    set, the running stage is ended and the job stays unfinished. However this ends, no process of
    the job is left.

    Raises:
        JobBusy: another run of this job goes on.
        NoSuchStage: the job does not go through `until`.
        EnvironmentMissing: a stage that has to run has no environment.
        MachineTooSmall: the job is estimated to need more memory or disk than there is.
        SourceError: the model or the data cannot be read.
    """
    name = job.metadata.name
    home = Home(home.root.resolve())
    with only_run(home.lock(name), job=name):
        fingerprints = fingerprint_job(job.spec, base=base, cache=home.cache, secrets=home.secrets)
        planned = plan(job, fingerprints=fingerprints, until=until)
        require_runnable(planned, home=home, environments=environments, base=base)
        write_atomically(home.manifest(name), manifest_text)
        executor = LocalExecutor(planned, home=home, environments=environments, base=base)
        try:
            executor.recover()
            return drive(planned, executor, home=home, watch=watch, stop=stop)
        finally:
            executor.close()


def require_runnable(planned: Plan, *, home: Home, environments: Environments, base: Path) -> None:
    """Do nothing if every stage that is not done can run on this machine.

    Before `prepare` has seen the rows, only what is too large however short they are is refused:
    it judges by the longest itself. So it does where the model is not on this machine yet.

    Raises:
        EnvironmentMissing: a stage that has to run has no environment.
        MachineTooSmall: the estimate exceeds the machine.
    """
    to_run = [stage for stage in planned.stages if not _is_done(planned, stage, home=home)]
    if not to_run:
        return
    environments.require(stage.environment for stage in to_run)
    model = local_model_path(planned.spec.model, base=base, cache=home.cache)
    if model is None:
        _LOG.info("the model is not on this machine yet: prepare checks memory and disk")
        return
    prepare = planned.stage(PREPARE.name)
    prepared = home.result(planned.job, stage=prepare.name, key=prepare.key)
    longest = longest_row_of(prepared) if prepared else SHORTEST_ROW
    shortage = shortage_of_room(
        estimate(planned.spec, read_model_facts(model), longest_row=longest),
        stages=frozenset(stage.name for stage in to_run),
        folder=home.root,
        has_bytes=_written(planned, home=home),
    )
    if shortage is not None:
        raise MachineTooSmall(shortage.reason, shortage.message)


def _is_done(planned: Plan, stage: PlannedStage, *, home: Home) -> bool:
    return home.result(planned.job, stage=stage.name, key=stage.key) is not None


def _written(planned: Plan, *, home: Home) -> int:
    """Bytes that the plan's stages have written so far."""
    folders = [
        home.stage(planned.job, stage=stage.name, key=stage.key).artifacts
        for stage in planned.stages
    ]
    return sum(path.stat().st_size for folder in folders for path in files_below(folder))
