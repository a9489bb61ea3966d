"""Memory across the jobs of a cluster: `search` asks it, and `publish`, the last stage, adds to it.

On a laptop whoever starts the stages does both (`local/job_memory.py`). A memory that cannot be
used costs a job nothing but what is in it: it is warned.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tunesmith_engine.search_memory.recall import Recalled, recalled
from tunesmith_engine.search_memory.recording import record_of, run_uid, task_of
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.sources.search_memory_objects import SearchMemoryObjects
from tunesmith_engine.stages.contracts import StageName, StageRequest
from tunesmith_engine.stages.trial_records import trials_of

_PREPARE: Final[StageName] = "prepare"
_SEARCH: Final[StageName] = "search"


def recall_from_store(request: StageRequest) -> Recalled:
    """What the search may start from; nothing where no store is named."""
    search = request.spec.search
    if search is None or request.memory_store is None or search.memory.use == "none":
        return Recalled()
    try:
        records = _opened(request, request.memory_store).read()
    except SourceError as error:
        return Recalled(warning=f"the search starts from nothing: {error.message}")
    prepared = request.inputs.get(_PREPARE)
    task = task_of(request.spec, prepared.facts if prepared else {})
    return recalled(records, task, search, own=run_uid(request.job, request.stage_keys))


def remember_in_store(request: StageRequest) -> list[str]:
    """Add the job, whose last stage this is, to what later searches ask; warnings, if any."""
    if request.memory_store is None:
        return []
    record = record_of(
        job=request.job,
        uid=run_uid(request.job, request.stage_keys),
        finished=datetime.now(UTC),
        spec=request.spec,
        results=request.inputs,
        trials=trials_of(request.inputs.get(_SEARCH)),
    )
    if record is None:
        return []
    try:
        _opened(request, request.memory_store).remember(record)
    except SourceError as error:
        return [f"later searches will not know of this job: {error.message}"]
    return []


def _opened(request: StageRequest, uri: str) -> SearchMemoryObjects:
    secret = read_secret(request.spec.workspace.secret_ref, secrets=Path(request.secrets))
    return SearchMemoryObjects(uri, secret=secret)
