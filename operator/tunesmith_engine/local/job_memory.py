"""What a job that ended well leaves to later searches, from its folder into the home's memory."""

import logging
from datetime import UTC, datetime
from typing import Final

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_engine.local.errors import LocalError
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.results import read_result
from tunesmith_engine.local.search_memory_file import memory_file, read_memory, remember
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.search_memory.recall import Recalled, recalled
from tunesmith_engine.search_memory.recording import record_of, run_uid, task_of
from tunesmith_engine.search_memory.records import PastJob
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.trial_records import trials_of

_LOG = logging.getLogger(__name__)
_SEARCH: Final = "search"


def recall(plan: Plan, prepared: StageResult | None, *, home: HomeFolder) -> Recalled | None:
    """What the job's search may start from; None of a job without one.

    A memory that cannot be read costs the job nothing but what is in it: the search warns.
    """
    search = plan.spec.search
    if search is None:
        return None
    try:
        records = read_memory(memory_file(home))
    except (LocalError, OSError) as error:
        told = error.message if isinstance(error, LocalError) else str(error)
        return Recalled(warning=f"the search starts from nothing: {told}")
    keys = {stage.name: stage.key for stage in plan.stages}
    task = task_of(plan.spec, prepared.facts if prepared else {})
    return recalled(records, task, search, own=run_uid(plan.job, keys))


def remember_job(job: FineTuneJob, status: FineTuneJobStatus, *, home: HomeFolder) -> None:
    """Add the job to the memory; the same run, looked at again, is there once.

    A memory that cannot be written costs the job nothing: the log says why.
    """
    record = record_of_job(job, status, home=home) if status.phase == Phase.SUCCEEDED else None
    if record is None:
        return
    try:
        remember(memory_file(home), record)
    except LocalError as error:
        _LOG.warning("later searches will not know of this job: %s", error.message)
    except OSError as error:
        _LOG.warning("later searches will not know of this job: %s", error)


def record_of_job(
    job: FineTuneJob, status: FineTuneJobStatus, *, home: HomeFolder
) -> PastJob | None:
    """The record of a job in the home folder; None where it has measured nothing yet."""
    name = job.metadata.name
    keys = {stage.name: stage.key for stage in status.stages}
    results = {
        stage: result
        for stage, key in keys.items()
        if (result := read_result(home.stage(name, stage=stage, key=key).result)) is not None
    }
    return record_of(
        job=name,
        uid=run_uid(name, keys),
        finished=status.completion_time or datetime.now(UTC),
        spec=job.spec,
        results=results,
        trials=trials_of(results.get(_SEARCH)),
    )
