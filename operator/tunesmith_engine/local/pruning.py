"""Stale stage folders: those of keys that a job no longer has, which nothing will read again.

Each change of a manifest or of its data gives stages new keys, and new folders beside the old ones.
What a job has now is what its status names. Stages that it does not name, because the last run
ended before them, are left alone: a run of the same manifest may still find them done.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tunesmith_engine.local.home_folder import HomeFolder, StageFolder
from tunesmith_engine.local.locks import lock_job


@dataclass(frozen=True, slots=True)
class StaleStage:
    """A stage folder that the job no longer refers to, and what it takes on disk."""

    stage: str
    key: str
    path: Path
    num_bytes: int


def prune_job(home: HomeFolder, name: str, *, is_dry_run: bool) -> list[StaleStage]:
    """Remove the stale stage folders of a job and return them; a dry run removes nothing.

    Raises:
        JobBusy: a run of the job goes on.
        OSError: a folder cannot be removed.
    """
    # Under the lock that a run holds: it may be about to find one of the folders done.
    with lock_job(home.lock(name), job=name):
        stale = stale_stages(home, name)
        for stage in [] if is_dry_run else stale:
            # First what makes the rest count, should this be cut short.
            StageFolder(stage.path).result.unlink(missing_ok=True)
            shutil.rmtree(stage.path)
        return stale


def stale_stages(home: HomeFolder, name: str) -> list[StaleStage]:
    """The stage folders that the status of a job does not refer to, in order of their paths."""
    status = home.read_status(name)
    # NB: a status that cannot be read names no stage, so that nothing of the job is stale.
    stages = status.stages if status else []
    named = {stage.name for stage in stages}
    kept = {home.stage(name, stage=stage.name, key=stage.key).path for stage in stages}
    stale = []
    for path in sorted((home.job(name) / "stages").glob("*/*")):
        if not path.is_dir() or path.parent.name not in named or path in kept:
            continue
        # What removing it frees: of a link its own bytes, since what it leads to stays.
        num_bytes = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
        stale.append(StaleStage(path.parent.name, path.name, path, num_bytes))
    return stale
