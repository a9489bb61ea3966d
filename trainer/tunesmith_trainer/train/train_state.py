"""The whole state of a run, to disk and back: weights, optimizer, generators and history.

`loop` calls `save` and `restore`; all workers take part, the first one writes `checkpoints`. The
position in the data and the learning rate are functions of the step and need no state.
"""

from typing import Any

import torch

from tunesmith_trainer.train.checkpoints import Checkpoint, Checkpoints, Tensors
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.optimizer import optimizer_tensors, restore_optimizer
from tunesmith_trainer.train.parameter_groups import NamedParameters


class TrainState:
    """What a checkpoint is taken of."""

    def __init__(
        self,
        parameters: NamedParameters,
        optimizer: torch.optim.AdamW,
        *,
        group: WorkerGroup,
        checkpoints: Checkpoints,
    ) -> None:
        self._parameters = parameters
        self._optimizer = optimizer
        self._group = group
        self._checkpoints = checkpoints

    def save(self, history: History) -> None:
        """Write a checkpoint of the current step and remove those no longer needed."""
        # NB: in front of the branch. Gathering waits for all workers, the first one included.
        generators = self._generators()
        if not self._group.is_first:
            return
        self._checkpoints.write(
            history.step,
            best_step=history.best_step,
            files={
                # Only what is trained: the base model's frozen weights are in its own folder.
                "weights": dict(self._parameters),
                "optimizer": optimizer_tensors(self._optimizer, parameters=self._parameters),
                "generators": generators,
            },
            state=history.as_state(),
        )
        # NB: after the write. Cut off in between, there is one checkpoint too many, never none.
        self._checkpoints.prune()

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
        if self._group.is_first:
            # What is there of later steps is spoilt or of another configuration; they are done
            # again.
            self._checkpoints.discard_after(step)
        self.load_weights(step)
        restore_optimizer(
            self._optimizer, checkpoint.tensors("optimizer"), parameters=self._parameters
        )
        # NB: last of all, so that nothing draws in between: dropout must go on with the very number
        # that it would have drawn.
        generators = checkpoint.tensors("generators")
        torch.set_rng_state(generators[f"cpu/{self._group.rank}"])
        if self._group.device.type == "cuda":
            torch.cuda.set_rng_state(generators[f"cuda/{self._group.rank}"], self._group.device)
        return History(**checkpoint.state)

    @torch.no_grad()
    def load_weights(self, step: int) -> None:
        """Put the weights that the checkpoint of `step` holds into the model.

        Raises:
            OSError: the checkpoint is gone or spoilt.
        """
        weights = self._checkpoint(step).tensors("weights")
        for name, parameter in self._parameters.items():
            # In place: the optimizer and tied modules hold these very tensors.
            parameter.copy_(weights[name])

    def _checkpoint(self, step: int) -> Checkpoint:
        checkpoint = self._checkpoints.read(step)
        if checkpoint is None:
            raise OSError(f"worker {self._group.rank} cannot read the checkpoint of step {step}")
        return checkpoint

    def _generators(self) -> Tensors:
        # Of every worker: each draws its own dropout masks.
        own: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if self._group.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self._group.device)
        return {
            f"{name}/{rank}": state
            for name, mine in own.items()
            for rank, state in enumerate(self._group.all_gather(mine))
        }
