"""The training loop: what one worker does from the first step, or the last checkpoint, to the end.

Every worker runs it with its own place in the `WorkerGroup`; it needs no Ray, so tests call it
directly. The gradient of a step is that of the mean loss over all target tokens of the whole batch,
however the batch is cut into micro batches and dealt out to workers.
"""

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import numpy as np
import torch

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import Sampler, micro_batches
from tunesmith_trainer.train.history import HELD_OUT, History
from tunesmith_trainer.train.objectives.objective import Objective
from tunesmith_trainer.train.optimizer import (
    build_optimizer,
    learning_rate,
    set_rate,
    trainable_parameters,
)
from tunesmith_trainer.train.train_state import TrainState


class StepCallback(Protocol):
    """Called before the first step and after every one; shows people how far the run is."""

    def __call__(self, history: History, *, epoch: float) -> None: ...


class Loop:
    """One worker's training run.

    `objective` is minimised over the rows that `sampler` draws from its set. `measures` are losses
    over sets that are only looked at, by the kind of their points in the curve; the one of the
    held-out rows picks the best step.
    """

    def __init__(
        self,
        model: Any,
        *,
        config: TrainConfig,
        objective: Objective,
        sampler: Sampler,
        measures: Mapping[str, Objective],
        group: WorkerGroup,
        checkpoints: Checkpoints,
        on_step: StepCallback | None = None,
    ) -> None:
        self._model = model
        self._config = config
        self._objective = objective
        self._sampler = sampler
        self._measures = measures
        self._group = group
        self._on_step = on_step
        named = trainable_parameters(model)
        self._parameters = list(named.values())
        self._optimizer = build_optimizer(named, optimizer=config.training.optimizer)
        self._state = TrainState(named, self._optimizer, group=group, checkpoints=checkpoints)
        self._history = History()
        self.resumed_from: int | None = None

    @property
    def num_trainable(self) -> int:
        """How many numbers training changes."""
        return sum(parameter.numel() for parameter in self._parameters)

    def run(self) -> History:
        """Train to the last planned step; the best checkpoint is on disk then.

        Raises:
            VerdictError: the loss or a gradient is no longer finite; all workers raise it.
        """
        config = self._config
        self._begin()
        for step in range(self._history.step + 1, config.num_steps + 1):
            self._do_step(step)
            is_last = step == config.num_steps
            # NB: measured before the checkpoint is written, so that a resumed run has the loss of
            # this step and need not measure again. A better step is always kept: its weights are
            # what the run is for.
            is_better = (is_last or step % config.evaluate_every == 0) and self._measure()
            if is_last or is_better or step % config.checkpoint_every == 0:
                self._state.save(self._history)
            self._report()
        return self._history

    def load_best(self) -> None:
        """Put the weights of the best checkpoint into the model."""
        self._state.load_weights(self._history.best_step)

    def _begin(self) -> None:
        resumed = self._state.restore()
        if resumed is None:
            # Other dropout masks on each worker, where the adapters' first values were the same.
            # SeedSequence keeps neighbours apart: seed 1 on rank 0 is not seed 0 on rank 1.
            seed = np.random.SeedSequence([self._config.training.seed, self._group.rank])
            torch.manual_seed(int(seed.generate_state(1)[0]))
            self._measure()
        else:
            self._history, self.resumed_from = resumed, resumed.step
        self._report()

    def _report(self) -> None:
        if self._on_step is not None:
            self._on_step(self._history, epoch=self._sampler.epoch_after(self._history.step))

    def _do_step(self, step: int) -> None:
        started = time.monotonic()
        rows = self._sampler.rows_of(step)
        loss, grad_norm = self._leave_gradients(rows)
        # NB: both were summed over the workers, so all of them raise, or none. It is checked before
        # the optimizer's step: afterwards every weight would be NaN, and so the next checkpoint.
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise _diverged(f"training loss {loss}, gradient norm {grad_norm}", step=step)
        rate = learning_rate(self._config, step=step)
        set_rate(self._optimizer, rate)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._history.record_step(
            loss=loss,
            rate=rate,
            grad_norm=grad_norm,
            tokens=int(self._objective.lengths[rows].sum()),
            seconds=time.monotonic() - started,
        )

    def _leave_gradients(self, rows: list[int]) -> tuple[float, float]:
        """Leave the clipped gradient of the whole batch in the parameters.

        Return the mean loss per unit and the norm before clipping.
        """
        self._model.train()
        # NB: the targets of the whole batch, of all workers. A mean over each micro batch,
        # averaged, would weigh a token of a short answer more than one of a long answer, and the
        # curve would depend on how many workers there are.
        num_units = self._objective.num_units(rows)
        share = 0.0
        for micro_batch in self._micro_batches(self._objective, rows):
            with self._autocast():
                loss = self._objective.summed_loss(self._model, micro_batch) / num_units
            # Outside of autocast, as torch asks: backward computes in the types of the forward
            # pass.
            loss.backward()
            share += loss.item()
        # Sums, never averages: each worker has divided by the targets of all of them.
        self._group.all_reduce_gradients(self._parameters)
        # After the sum: the norm to be clipped is that of the batch, the same on every worker.
        max_norm = self._config.training.optimizer.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, max_norm)
        (mean,) = self._group.all_reduce_sum(share)
        return mean, norm.item()

    def _measure(self) -> bool:
        """Measure every loss that is looked at; whether the held-out one is the best so far."""
        # Without dropout, so that it draws nothing from the generators: how often a run is measured
        # does not change what it learns.
        self._model.eval()
        with torch.no_grad(), self._autocast():
            losses = {kind: self._mean_loss(over) for kind, over in self._measures.items()}
        if not math.isfinite(losses[HELD_OUT]):
            raise _diverged(f"held-out loss {losses[HELD_OUT]}", step=self._history.step)
        return self._history.record_measures(losses)

    def _mean_loss(self, objective: Objective) -> float:
        share, num_share = 0.0, 0
        for rows in self._micro_batches(objective, list(range(len(objective.lengths)))):
            share += objective.summed_loss(self._model, rows).item()
            num_share += objective.num_units(rows)
        total, num_units = self._group.all_reduce_sum(share, num_share)
        return total / num_units

    def _micro_batches(self, objective: Objective, rows: list[int]) -> list[list[int]]:
        return micro_batches(
            rows,
            lengths=objective.lengths,
            size=self._config.training.batch.micro_batch_size,
            rank=self._group.rank,
            num_ranks=self._group.size,
        )

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self._group.device, precision=self._config.precision)


def autocast(
    device: torch.device, *, precision: Literal["bf16", "fp32"]
) -> AbstractContextManager[object]:
    """What every forward pass of a run computes under."""
    # No gradient scaler: bf16 has the exponents of fp32, so gradients do not vanish in it.
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _diverged(what: str, *, step: int) -> VerdictError:
    return VerdictError(
        Reason.LOSS_DIVERGED,
        f"step {step}: {what}; lower training.optimizer.learningRate or raise "
        "training.schedule.warmupRatio",
    )
