"""Points from which training goes on: `step-N/` folders of safetensors files and one JSON file.

`train_state` fills them. Where the disk does not outlive the pod, the `checkpoint_mirror` of the
engine copies them, and for workers that are apart `remote_checkpoints`. A folder is written beside
its final name, flushed to disk and renamed, so it is there whole or not at all; `state.json` holds
a digest of every file, so one that the disk spoilt later is passed over. Nothing in it is code: no
pickle is written or read.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from tunesmith_engine.stages.contracts import CHECKPOINTS
from tunesmith_engine.stages.digests import digest_file
from tunesmith_trainer.train.fencing import Fence
from tunesmith_trainer.train.remote_checkpoints import RemoteCheckpoints

Tensors = dict[str, torch.Tensor]

_STATE: Final = "state.json"

# Raised whenever what stands in a checkpoint changes its meaning; others are passed over.
_FORMAT: Final = 4

log = logging.getLogger(__name__)


def newest_step(output: Path) -> int:
    """The step of the newest checkpoint below a stage's output folder, 0 if there is none."""
    steps = (step_of(path.name) for path in (output / CHECKPOINTS).glob("step-*"))
    return max((step or 0 for step in steps), default=0)


def step_of(name: str) -> int | None:
    """The step of a checkpoint's folder; None for another folder."""
    number = name.removeprefix("step-")
    return int(number) if name != number and number.isdigit() else None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An intact checkpoint on disk; `state` is what was given to `Checkpoints.write`."""

    folder: Path
    step: int
    best_step: int
    state: dict[str, Any]

    def tensors(self, name: str) -> Tensors:
        """The tensors of one file: weights, optimizer or generators."""
        return load_file(self.folder / f"{name}.safetensors")


class Checkpoints:
    """The checkpoints of one run below `root`; those of another configuration are none of ours."""

    def __init__(
        self,
        root: Path,
        *,
        config_digest: str,
        keep: int,
        settings: Mapping[str, str] | None = None,
        remote: RemoteCheckpoints | None = None,
        fence: Fence | None = None,
    ) -> None:
        """`settings` are what the digest was made of, as text by name, to tell what differs.

        `remote` is where they are kept if `root` is on a disk that no other worker shares; `fence`
        tells whether this run may still write.
        """
        self.remote = remote
        self._fence = fence
        self._root = root
        self._config_digest = config_digest
        self._keep = keep
        self._settings = dict(settings or {})

    def begin(self, step: int, *, owner: int | None = None) -> Path:
        """An empty folder for `write`, which may be given files before; `owner` is this process."""
        # A name that the next process does not share, and that no glob for step-* matches.
        temporary = self.unfinished(step, owner=owner or os.getpid())
        _remove(temporary)
        temporary.mkdir(parents=True)
        return temporary

    def unfinished(self, step: int, *, owner: int) -> Path:
        """The folder that the process `owner` begins the checkpoint of `step` in."""
        return self._root / f".step-{step}.{owner}"

    def write(
        self,
        step: int,
        *,
        best_step: int,
        files: dict[str, Tensors],
        state: dict[str, Any],
        begun: Path | None = None,
    ) -> None:
        """Keep `files` and `state` as the checkpoint of `step`, replacing an earlier one.

        `best_step` is the checkpoint that is the best one so far; it may be this one. `begun` is
        what `begin` returned, with files that stay in it and are flushed to disk. What cannot be
        written leaves the checkpoints as they were, and takes no space.

        Raises:
            FencedError: a newer start of the run has begun.
        """
        final, temporary = self._folder(step), begun or self.begin(step)
        with _removed_on_error(temporary):
            for name, tensors in files.items():
                path = temporary / f"{name}.safetensors"
                # safetensors refuses tensors that are not contiguous.
                save_file({key: each.detach().contiguous() for key, each in tensors.items()}, path)
                _flush(path)
            record = {
                "format": _FORMAT,
                "config": self._config_digest,
                "settings": self._settings,
                "bestStep": best_step,
                "files": {path.name: digest_file(path) for path in sorted(temporary.iterdir())},
                "state": state,
            }
            (temporary / _STATE).write_text(json.dumps(record), encoding="utf-8")
            # NB: the order of what is flushed. First all bytes and then the entries of their
            # folder, or after a power failure the new name could stand over files that are empty;
            # last the entry of the folder itself, or the rename could be undone.
            _flush(temporary / _STATE)
            _flush(temporary)
            if self._fence is not None:
                # NB: last of all before it counts, and while this process holds the lock that the
                # newer start waits for: nothing comes in between.
                self._fence.check()
        # rename() replaces no folder that has something in it. Between these two lines the step has
        # no checkpoint; a run killed here goes on from the one before.
        _remove(final)
        temporary.rename(final)
        _flush(self._root)

    def newest(self) -> Checkpoint | None:
        """The intact checkpoint with the highest step, or None."""
        for step in reversed(self._steps()):
            checkpoint = self.read(step)
            if checkpoint is not None:
                return checkpoint
        return None

    def read(self, step: int, *, verify: bool = True) -> Checkpoint | None:
        """The checkpoint of `step`, or None if it is missing, spoilt or of another run.

        Without `verify` nobody looks whether it is spoilt: for those whom another has told.
        """
        folder = self._folder(step)
        try:
            record = _read_record(folder)
            self._verify(record, folder=folder if verify else None)
        except (OSError, ValueError, KeyError) as error:
            log.warning("checkpoint %s is passed over: %s", folder.name, error)
            return None
        return Checkpoint(
            folder=folder, step=step, best_step=record["bestStep"], state=record["state"]
        )

    def _verify(self, record: dict[str, Any], *, folder: Path | None) -> None:
        if record["format"] != _FORMAT:
            raise ValueError(f"its format is {record['format']}, and this release reads {_FORMAT}")
        if record["config"] != self._config_digest:
            raise ValueError(f"it is of another run: {self._differences(record)}")
        for name, digest in record["files"].items() if folder else ():
            if digest_file(folder / name) != digest:
                raise ValueError(f"{name} is not what was written")

    def _differences(self, record: dict[str, Any]) -> str:
        theirs, ours = record.get("settings", {}), self._settings
        told = [
            f"{name} was {theirs.get(name, 'not set')} and is {ours.get(name, 'not set')}"
            for name in sorted({*theirs, *ours})
            if theirs.get(name) != ours.get(name)
        ]
        return "; ".join(told) or "its configuration has another digest"

    def prune(self) -> None:
        """Remove all but the newest `keep` checkpoints and those that they call the best."""
        steps = self._steps()
        newest = steps[-self._keep :]
        # NB: the best of each that is kept, not of the newest alone. Should that one be spoilt one
        # day, the run goes on from an older one, whose best step must still be there at the end.
        best = {_read_record(self._folder(step))["bestStep"] for step in newest}
        for step in set(steps) - set(newest) - best:
            _remove(self._folder(step))

    def discard_after(self, step: int) -> None:
        """Remove what was kept after `step`, and what a killed run left half-written."""
        for later in self._steps():
            if later > step:
                _remove(self._folder(later))
        for unfinished in self._root.glob(".step-*"):
            _remove(unfinished)

    def _folder(self, step: int) -> Path:
        return self._root / f"step-{step}"

    def _steps(self) -> list[int]:
        steps = (step_of(path.name) for path in self._root.glob("step-*"))
        return sorted(step for step in steps if step is not None)


def _read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return record


def _flush(path: Path) -> None:
    """Wait until the bytes of a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    """Delete `folder` if the block fails: on a full disk half a checkpoint is only in the way."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _remove(folder: Path) -> None:
    """Delete a checkpoint: renamed first, so that half of one is never taken for a whole."""
    if not folder.exists():
        return
    doomed = folder
    if not folder.name.startswith("."):
        doomed = folder.with_name(f".{folder.name}.gone")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
    shutil.rmtree(doomed)
