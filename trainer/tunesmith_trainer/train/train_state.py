"""The whole state of a run, to disk and back: weights, optimizer, generators and history.

`loop` calls `save` and `restore`; all workers take part, the first one writes `checkpoints`, and of
a sharded model every worker its part, in the background if `asynchronous`. Workers that share no
folder go by the store that `checkpoints` names. The position in the data and the learning rate are
functions of the step and need no state, so that another number of workers may go on; only what
dropout draws is then another sequence.
"""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from tunesmith_trainer.train.checkpoint_writer import CheckpointWriter, host_copy
from tunesmith_trainer.train.checkpoints import Checkpoint, Checkpoints, Tensors
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.optimizer import (
    empty_optimizer_tensors,
    optimizer_tensors,
    restore_optimizer,
)
from tunesmith_trainer.train.parameter_groups import NamedParameters
from tunesmith_trainer.train.sharded_files import read_shards, start_shards, write_shards


class TrainState:
    """What a checkpoint is taken of; `last_saved` is the step of the last one, 0 without any."""

    def __init__(
        self,
        parameters: NamedParameters,
        optimizer: torch.optim.Optimizer,
        *,
        group: WorkerGroup,
        checkpoints: Checkpoints,
        asynchronous: bool,
        seed: int,
    ) -> None:
        self._parameters = parameters
        self._optimizer = optimizer
        self._group = group
        self._checkpoints = checkpoints
        self._seed = seed
        self.last_saved = 0
        self._writer = CheckpointWriter(asynchronous=asynchronous)
        # NB: of its own, and over the processor: the messages of a write must not come in between
        # those of the steps beside it, and NCCL moves nothing of the host's memory.
        self._writing_group = (
            distributed.new_group(backend="gloo")
            if group.is_sharded and (asynchronous or checkpoints.remote is not None)
            else None
        )

    def wait(self) -> None:
        """Return when the last checkpoint is on disk.

        Raises:
            OSError: it could not be written.
        """
        self._writer.wait()

    def raise_failed(self) -> None:
        """Tell of a checkpoint that could not be written, without waiting for one.

        Raises:
            OSError: it could not be written.
        """
        self._writer.raise_failed()

    def save(self, history: History) -> None:
        """Keep a checkpoint of the current step, and remove those no longer needed.

        Raises:
            OSError: this one or the one before could not be written.
        """
        # NB: before anything is copied, or there would be two copies at once; and in front of the
        # branches: gathering waits for all workers, the first one included.
        self._writer.wait()
        generators = self._generators()
        self.last_saved = history.step
        files: dict[str, Tensors] = {"generators": generators}
        begun: Path | None = None
        finish: Callable[[], None] | None = None
        if self._group.is_sharded:
            begun, finish = self._start_shards(history.step)
        elif self._group.is_first:
            files |= self._whole_tensors()
        # Not by way of the history, which goes on while this is written.
        step, best_step, state = history.step, history.best_step, history.as_state()

        def write() -> None:
            if finish is not None:
                finish()
            if self._group.is_first:
                self._checkpoints.write(
                    step, best_step=best_step, files=files, state=state, begun=begun
                )
                self._keep(step)

        self._writer.start(write)

    def _keep(self, step: int) -> None:
        """Put what was just written into the store, if one counts, and remove what is old."""
        remote = self._checkpoints.remote
        if remote is not None and self._group.is_sharded:
            remote.finish(step)
        # NB: after the write. Cut off in between, there is one too many, never none.
        self._checkpoints.prune()
        if remote is not None:
            remote.keep()

    def _whole_tensors(self) -> dict[str, Tensors]:
        # Only what is trained: the base model's frozen weights are in its own folder.
        tensors = {
            "weights": dict(self._parameters),
            "optimizer": optimizer_tensors(self._optimizer, parameters=self._parameters),
        }
        if not self._writer.asynchronous:
            return tensors
        return {name: host_copy(of_file) for name, of_file in tensors.items()}

    def _start_shards(self, step: int) -> tuple[Path, Callable[[], None]]:
        """Begin to write every worker's part into the folder that the first one begins.

        Return the folder, and what returns once all parts are in it.
        """
        remote = self._checkpoints.remote
        if self._group.is_first:
            if remote is not None:
                remote.clear(step)
            self._checkpoints.begin(step)
        # NB: behind `begin`, so that the folder is there when the others have been told its owner.
        owner = self._group.broadcast(os.getpid())
        folder = self._checkpoints.unfinished(step, owner=owner)
        is_alone_here = remote is not None and not self._group.is_first
        if is_alone_here:
            self._checkpoints.begin(step, owner=owner)
        moments = optimizer_tensors(self._optimizer, parameters=self._parameters)
        tensors = {**self._sharded_weights(), **moments}
        if self._writer.asynchronous and self._writing_group is not None:
            started = start_shards(folder, tensors, group=self._writing_group)
        else:
            started = partial(write_shards, folder, tensors)

        def finish() -> None:
            try:
                started()
                if remote is not None and self._writing_group is not None:
                    remote.put_part(step, folder, group=self._writing_group)
            except BaseException:
                # On a full disk parts of a checkpoint are only in the way.
                shutil.rmtree(folder, ignore_errors=True)
                raise
            if is_alone_here:
                shutil.rmtree(folder)

        return folder, finish

    def restore(self) -> History | None:
        """Put the newest intact checkpoint back; None if there is none.

        Raises:
            OSError: another worker cannot read the checkpoint that the first one found.
        """
        # One worker decides for all. Each would find the newest for itself, but on a shared volume
        # they might not see the same, and train on from different steps.
        newest = self._checkpoints.newest() if self._group.is_first else None
        step = self._group.broadcast(newest.step if newest else 0)
        if step == 0:
            return None
        checkpoint = newest or self._checkpoint(step)
        self.last_saved = step
        if self._group.is_first:
            # What is there of later steps is spoilt or of another configuration; they are done
            # again.
            self._checkpoints.discard_after(step)
        self.load_weights(step)
        if self._group.is_sharded:
            moments = empty_optimizer_tensors(self._parameters)
            read_shards(checkpoint.folder, moments)
        else:
            moments = checkpoint.tensors("optimizer")
        restore_optimizer(self._optimizer, moments, parameters=self._parameters)
        # NB: last of all, so that nothing draws in between: dropout must go on with the very number
        # that it would have drawn.
        self._restore_generators(checkpoint.tensors("generators"), step=step)
        return History(**checkpoint.state)

    def seed_generators(self, *, step: int = 0) -> None:
        """Begin a sequence of random numbers that no other worker and no other `step` has."""
        # SeedSequence keeps neighbours apart: seed 1 on rank 0 is not seed 0 on rank 1.
        entropy = [self._seed, self._group.rank, *([step] if step else [])]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def _restore_generators(self, generators: Tensors, *, step: int) -> None:
        rank, device = self._group.rank, self._group.device
        if f"cpu/{rank}" not in generators:
            # There were fewer workers when it was written.
            self.seed_generators(step=step)
            return
        torch.set_rng_state(generators[f"cpu/{rank}"])
        if device.type != "cpu":
            state = generators[f"{device.type}/{rank}"]
            torch.get_device_module(device).set_rng_state(state, device)

    @torch.no_grad()
    def load_weights(self, step: int) -> None:
        """Put the weights that the checkpoint of `step` holds into the model.

        NB: of a sharded model, all workers have to call it.

        Raises:
            OSError: the checkpoint is gone or spoilt.
        """
        self._writer.wait()
        if self._group.is_sharded:
            # NB: the first one may have just written its part, and be about to rename the folder.
            self._group.broadcast(step)
        checkpoint = self._checkpoint(step)
        if self._group.is_sharded:
            read_shards(checkpoint.folder, self._sharded_weights())
            return
        weights = checkpoint.tensors("weights")
        for name, parameter in self._parameters.items():
            # In place: the optimizer and tied modules hold these very tensors.
            parameter.copy_(weights[name])

    def _sharded_weights(self) -> Tensors:
        # The very tensors that the model computes with: they are filled in place.
        return {f"weights/{name}": value.detach() for name, value in self._parameters.items()}

    def _checkpoint(self, step: int) -> Checkpoint:
        remote = self._checkpoints.remote
        if remote is not None and (self._group.is_sharded or not self._group.is_first):
            # Of what was written here it is but a part.
            remote.fetch(step)
        # Of shards, one worker reads all for its digests, and each its own part.
        verify = self._group.is_first or not self._group.is_sharded
        checkpoint = self._checkpoints.read(step, verify=verify)
        if checkpoint is None:
            raise OSError(f"worker {self._group.rank} cannot read the checkpoint of step {step}")
        return checkpoint

    def _generators(self) -> Tensors:
        # Of every worker: each draws its own dropout masks.
        own: dict[str, Any] = {"cpu": torch.get_rng_state()}
        device = self._group.device
        if device.type != "cpu":
            own[device.type] = torch.get_device_module(device).get_rng_state(device)
        return {
            f"{name}/{rank}": state
            for name, mine in own.items()
            for rank, state in enumerate(self._group.all_gather(mine))
        }
