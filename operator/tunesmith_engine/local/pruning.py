"""What the home folder holds and nobody needs, and how a whole job is deleted.

    stale stages   of keys that a job no longer has: each change of a manifest or of its data gives
                   stages new keys, and new folders beside the old ones
    checkpoints    of a stage that is done: only a run that goes on where it was stopped reads them
    half written   what a killed command has left under a temporary name in cache/ and models/
    cache          downloads and converted models that no result names; asked for by itself

What a job has now is what its status names. Stages that it does not name, because the last run
ended before them, are left alone: a run of the same manifest may still find them done.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_engine.local.home_folder import HomeFolder, StageFolder
from tunesmith_engine.local.locks import lock_job
from tunesmith_engine.stages.contracts import CHECKPOINTS
from tunesmith_engine.stages.digests import path_of

# Names of what is written and not whole yet, in the cache (`sources/downloads.py`, and prepare's
# conversion of GGUF) and beside published versions (`sources/local_target.py`).
_PARTIALS: Final = (
    "cache/models/.*",
    "cache/files/*.partial",
    "cache/files/*/.*",
    "cache/sources/*.partial",
    "cache/sources/*/.*",
    "models/*/.publishing-*",
)
# Small, and for ever right: digests of files by their size and time.
_KEPT_KINDS: Final = frozenset({"digests"})


@dataclass(frozen=True, slots=True)
class Unneeded:
    """A folder or a file that nothing needs, and what it takes on disk.

    `kind` is stage, checkpoints, partial or cache; `job` is empty for what belongs to none.
    """

    kind: str
    path: Path
    num_bytes: int
    job: str = ""
    stage: str = ""
    key: str = ""


def prune_job(home: HomeFolder, name: str, *, is_dry_run: bool) -> list[Unneeded]:
    """Remove what a job does not need and return it; a dry run removes nothing.

    Raises:
        JobBusy: a run of the job goes on.
        OSError: a folder cannot be removed.
    """
    # Under the lock that a run holds: it may be about to find one of the folders done.
    with lock_job(home.lock(name), job=name):
        unneeded = [*stale_stages(home, name), *_spent_checkpoints(home, name)]
        for one in [] if is_dry_run else unneeded:
            if one.kind == "stage":
                # First what makes the rest count, should this be cut short.
                StageFolder(one.path).result.unlink(missing_ok=True)
            shutil.rmtree(one.path)
        return unneeded


def prune_shared(home: HomeFolder, *, with_cache: bool, is_dry_run: bool) -> list[Unneeded]:
    """Remove what jobs share and none needs; nothing as long as any job runs, which may use it.

    Raises:
        OSError: something cannot be removed.
    """
    if any(home.is_running(name) for name in home.list_jobs()):
        return []
    unneeded = [*_partials(home), *(_unnamed_cache(home) if with_cache else ())]
    for one in [] if is_dry_run else unneeded:
        if one.path.is_dir() and not one.path.is_symlink():
            shutil.rmtree(one.path)
        else:
            one.path.unlink(missing_ok=True)
    return unneeded


def delete_job(home: HomeFolder, name: str) -> None:
    """Delete everything of a job but its lock; its published models stay.

    Raises:
        JobBusy: a run of the job goes on.
        OSError: something cannot be removed.
    """
    folder = home.job(name)
    with lock_job(home.lock(name), job=name):
        # NB: the status last. Cut short, the job is still listed, and can be deleted again. The
        # lock stays: a second process could lock a new file of that name beside it.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "status.json"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != home.lock(name):
                path.unlink()


def stale_stages(home: HomeFolder, name: str) -> list[Unneeded]:
    """The stage folders that the status of a job does not refer to, in order of their paths."""
    status = home.read_status(name)
    # NB: a status that cannot be read names no stage, so that nothing of the job is stale.
    stages = status.stages if status else []
    named = {stage.name for stage in stages}
    kept = {home.stage(name, stage=stage.name, key=stage.key).path for stage in stages}
    return [
        Unneeded("stage", path, bytes_below(path), job=name, stage=path.parent.name, key=path.name)
        for path in sorted((home.job(name) / "stages").glob("*/*"))
        if path.is_dir() and path.parent.name in named and path not in kept
    ]


def bytes_below(path: Path) -> int:
    """What removing `path` frees: of a link its own bytes, since what it leads to stays."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def _spent_checkpoints(home: HomeFolder, name: str) -> Iterator[Unneeded]:
    """Checkpoints of the stages that the job has, and has done."""
    status = home.read_status(name)
    for stage in status.stages if status else ():
        folder = home.stage(name, stage=stage.name, key=stage.key)
        path = folder.artifacts / CHECKPOINTS
        # Asked of the result and not of the status: it is what lets the next run pass the stage by.
        result = home.result(name, stage=stage.name, key=stage.key) if path.is_dir() else None
        if result is None or any(
            path_of(made.uri).is_relative_to(path)
            for made in result.artifacts
            if made.uri.startswith("file://")
        ):
            continue
        yield Unneeded(
            "checkpoints",
            path,
            bytes_below(path),
            job=name,
            stage=stage.name,
            key=folder.path.name,
        )


def _partials(home: HomeFolder) -> Iterator[Unneeded]:
    for path in sorted(path for pattern in _PARTIALS for path in home.root.glob(pattern)):
        yield Unneeded("partial", path, bytes_below(path))


def _unnamed_cache(home: HomeFolder) -> Iterator[Unneeded]:
    """Entries of the cache in which no result of a job's stages says that an artifact lies."""
    # Resolved, as an artifact's URI is.
    named, cache = set(_named_paths(home)), home.cache.resolve()
    partials = {one.path for one in _partials(home)}
    for path in sorted(cache.glob("*/*")):
        # `NAME.json` is the record of the folder NAME, and goes with it.
        record_of = path.with_suffix("") if path.suffix == ".json" else path
        if path.parent.name in _KEPT_KINDS or path in partials or {path, record_of} & named:
            continue
        yield Unneeded("cache", path, bytes_below(path))


def _named_paths(home: HomeFolder) -> Iterator[Path]:
    """Where the artifacts of all jobs lie, and every folder above."""
    for name in home.list_jobs():
        status = home.read_status(name)
        for stage in status.stages if status else ():
            result = home.result(name, stage=stage.name, key=stage.key)
            for made in result.artifacts if result else ():
                if made.uri.startswith("file://"):
                    yield from (path_of(made.uri), *path_of(made.uri).parents)
