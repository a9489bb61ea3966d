"""The whole state of a run, to disk and back: weights, optimizer, generators and history.

`loop` calls `keep` and `resume`; all workers take part, the first one writes. The position in the
data and the learning rate are functions of the step and need no state.
"""

from typing import Any

import torch

from tunesmith_trainer.train.checkpoints import Checkpoint, Checkpoints, Tensors
from tunesmith_trainer.train.collectives import Ranks
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.optimizer import (
    NamedParameters,
    optimizer_tensors,
    restore_optimizer,
)


class Snapshot:
    """What a checkpoint is taken of."""

    def __init__(
        self,
        parameters: NamedParameters,
        optimizer: torch.optim.AdamW,
        *,
        ranks: Ranks,
        checkpoints: Checkpoints,
    ) -> None:
        self._parameters = parameters
        self._optimizer = optimizer
        self._ranks = ranks
        self._checkpoints = checkpoints

    def keep(self, history: History) -> None:
        """Write a checkpoint of the current step and remove those no longer needed."""
        generators = self._generators()
        if not self._ranks.is_first:
            return
        self._checkpoints.write(
            history.step,
            best_step=history.best_step,
            files={
                "weights": dict(self._parameters),
                "optimizer": optimizer_tensors(self._optimizer, parameters=self._parameters),
                "generators": generators,
            },
            state=history.as_state(),
        )
        self._checkpoints.prune()

    def resume(self) -> History | None:
        """Put the newest intact checkpoint back; None if there is none.

        Raises:
            OSError: another worker cannot read the checkpoint that the first one found.
        """
        found = self._checkpoints.newest() if self._ranks.is_first else None
        step = self._ranks.first_says(found.step if found else 0)
        if step == 0:
            return None
        checkpoint = found or self._checkpoint(step)
        if self._ranks.is_first:
            self._checkpoints.discard_after(step)
        self._put_back(checkpoint)
        return History(**checkpoint.state)

    @torch.no_grad()
    def put_weights_of(self, step: int) -> None:
        """Put the weights that the checkpoint of `step` holds into the model.

        Raises:
            OSError: the checkpoint is gone or spoilt.
        """
        weights = self._checkpoint(step).tensors("weights")
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])

    def _checkpoint(self, step: int) -> Checkpoint:
        found = self._checkpoints.read(step)
        if found is None:
            raise OSError(f"worker {self._ranks.rank} cannot read the checkpoint of step {step}")
        return found

    def _put_back(self, checkpoint: Checkpoint) -> None:
        self.put_weights_of(checkpoint.step)
        restore_optimizer(
            self._optimizer, checkpoint.tensors("optimizer"), parameters=self._parameters
        )
        generators = checkpoint.tensors("generators")
        torch.set_rng_state(generators[f"cpu/{self._ranks.rank}"])
        if self._ranks.device.type == "cuda":
            torch.cuda.set_rng_state(generators[f"cuda/{self._ranks.rank}"], self._ranks.device)

    def _generators(self) -> Tensors:
        states: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if self._ranks.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._ranks.device)
        return {
            f"{name}/{rank}": state
            for name, own in states.items()
            for rank, state in enumerate(self._ranks.gathered(own))
        }
