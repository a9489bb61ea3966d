"""Old stage folders: those of keys that a job no longer has, which nothing will read again.

Each change of a manifest or of its data gives stages new keys, and new folders beside the old ones.
What a job has now is what its status names. Stages that it does not name, because the last run
ended before them, are left alone: a run of the same manifest may still find them done.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tunesmith_engine.local.home_folder import Home, StageFolder
from tunesmith_engine.local.locks import only_run


@dataclass(frozen=True, slots=True)
class OldStage:
    """A stage folder that the job no longer refers to, and what it takes on disk."""

    stage: str
    key: str
    path: Path
    num_bytes: int


def prune_job(home: Home, name: str, *, is_rehearsal: bool) -> list[OldStage]:
    """Remove the old stage folders of a job and return them; a rehearsal removes nothing.

    Raises:
        JobBusy: a run of the job goes on.
        OSError: a folder cannot be removed.
    """
    with only_run(home.lock(name), job=name):
        found = old_stages(home, name)
        if not is_rehearsal:
            for each in found:
                _remove(each.path)
        return found


def old_stages(home: Home, name: str) -> list[OldStage]:
    """The stage folders that the status of a job does not refer to, in order of their paths."""
    status = home.read_status(name)
    stages = status.stages if status else []
    named = {each.name for each in stages}
    kept = {home.stage(name, stage=each.name, key=each.key).path for each in stages}
    found = sorted((home.job(name) / "stages").glob("*/*"))
    return [
        OldStage(stage=path.parent.name, key=path.name, path=path, num_bytes=_size(path))
        for path in found
        if path.is_dir() and path.parent.name in named and path not in kept
    ]


def _remove(folder: Path) -> None:
    # First what makes the rest count, should this be cut short.
    StageFolder(folder).result.unlink(missing_ok=True)
    shutil.rmtree(folder)


def _size(folder: Path) -> int:
    """What removing the folder frees; links lead to what stays."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
