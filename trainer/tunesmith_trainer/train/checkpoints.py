"""Points from which training goes on: `step-N/` folders of safetensors files and one JSON file.

A folder is written beside its final name, flushed to disk and renamed, so it is there whole or not
at all; `state.json` holds a digest of every file, so one that the disk spoilt later is passed over.
Nothing in it is code: no pickle is written or read.
"""

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from tunesmith_engine.stages.digests import digest_file

Tensors = dict[str, torch.Tensor]

_STATE: Final = "state.json"
_FORMAT: Final = 1

log = logging.getLogger(__name__)


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
    """The checkpoints of one run below `root`; those of another recipe are none of ours."""

    def __init__(self, root: Path, *, recipe_digest: str, keep: int) -> None:
        self._root = root
        self._recipe_digest = recipe_digest
        self._keep = keep

    def write(
        self, step: int, *, best_step: int, files: dict[str, Tensors], state: dict[str, Any]
    ) -> None:
        """Keep `files` and `state` as the checkpoint of `step`, replacing an earlier one.

        `best_step` is the checkpoint that is the best one so far; it may be this one.
        """
        final = self._folder(step)
        temporary = final.with_name(f".{final.name}.{os.getpid()}")
        _remove(temporary)
        temporary.mkdir(parents=True)
        for name, tensors in files.items():
            path = temporary / f"{name}.safetensors"
            save_file({key: each.detach().contiguous() for key, each in tensors.items()}, path)
            _flush(path)
        _write_record(temporary, self._record(best_step, folder=temporary, state=state))
        _remove(final)
        temporary.rename(final)
        _flush(self._root)

    def newest(self) -> Checkpoint | None:
        """The intact checkpoint with the highest step, or None."""
        for step in reversed(self._steps()):
            found = self.read(step)
            if found is not None:
                return found
        return None

    def read(self, step: int) -> Checkpoint | None:
        """The checkpoint of `step`, or None if it is missing, spoilt or of another recipe."""
        folder = self._folder(step)
        try:
            record = _read_record(folder)
            self._check(record, folder=folder)
        except (OSError, ValueError, KeyError) as error:
            log.warning("checkpoint %s is passed over: %s", folder.name, error)
            return None
        return Checkpoint(
            folder=folder, step=step, best_step=record["bestStep"], state=record["state"]
        )

    def prune(self) -> None:
        """Remove all but the newest `keep` checkpoints and those that they call the best."""
        steps = self._steps()
        newest = steps[-self._keep :]
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
        names = (path.name.removeprefix("step-") for path in self._root.glob("step-*"))
        return sorted(int(name) for name in names if name.isdigit())

    def _record(self, best_step: int, *, folder: Path, state: dict[str, Any]) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "recipe": self._recipe_digest,
            "bestStep": best_step,
            "files": {path.name: digest_file(path) for path in sorted(folder.iterdir())},
            "state": state,
        }

    def _check(self, record: dict[str, Any], *, folder: Path) -> None:
        if record["format"] != _FORMAT or record["recipe"] != self._recipe_digest:
            raise ValueError("it belongs to another recipe or version")
        for name, digest in record["files"].items():
            if digest_file(folder / name) != digest:
                raise ValueError(f"{name} is not what was written")


def _read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return record


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    path = folder / _STATE
    path.write_text(json.dumps(record), encoding="utf-8")
    _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
