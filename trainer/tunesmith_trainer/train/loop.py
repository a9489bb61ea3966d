"""The training loop: what one worker does from the first step, or the last checkpoint, to the end.

Every worker runs it with its own place in the `WorkerGroup`; it needs no Ray, so tests call it
directly. The gradient of a step is that of the mean loss over all target tokens of the whole batch,
however the batch is cut into micro batches and dealt out to workers.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import torch

from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.train.base_check import doubt_about_base
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import Sampler, micro_batches
from tunesmith_trainer.train.divergence import (
    no_number,
    refuse_exploded_measures,
    refuse_exploded_training,
)
from tunesmith_trainer.train.early_stopping import stops_early
from tunesmith_trainer.train.forgetting_budget import keep_within_budget
from tunesmith_trainer.train.history import HELD_OUT, History, Step
from tunesmith_trainer.train.leaving import Left, is_told_to_leave, waited_for
from tunesmith_trainer.train.memory_usage import memory_usage
from tunesmith_trainer.train.mfu import ModelFlops, peak_flops
from tunesmith_trainer.train.objectives.group_weights import GroupWeights
from tunesmith_trainer.train.objectives.objective import LossOverRows, Measure, Objective
from tunesmith_trainer.train.optimizer import build_optimizer, set_rate
from tunesmith_trainer.train.packing import packed_micro_batches
from tunesmith_trainer.train.parameter_groups import trainable_parameters
from tunesmith_trainer.train.schedule import learning_rate
from tunesmith_trainer.train.sharding import whole, whole_outer_weights
from tunesmith_trainer.train.token_counts import TokenCounts
from tunesmith_trainer.train.train_state import TrainState

_log = logging.getLogger(__name__)


class StepCallback(Protocol):
    """Called before the first step and after every one; shows people how far the run is."""

    def __call__(self, history: History, *, epoch: float) -> None: ...


class Loop:
    """One worker's training run.

    `objective` is minimised over the rows that `sampler` draws from its set. `measures` are losses
    over sets that are only looked at, by the kind of their points in the curve; the one of the
    held-out rows picks the best step. `name_rows` turns row numbers of the training set into what
    people know the rows by. `last_step` ends a run in front of its planned end, with the
    learning rates of the whole. `on_measuring` is told which part of the rows that are looked at
    has been, from 0 to 1. `group_weights` are those of an objective that moves them.
    """

    def __init__(
        self,
        model: Any,
        *,
        config: TrainConfig,
        objective: Objective,
        sampler: Sampler,
        measures: Mapping[str, Measure],
        group: WorkerGroup,
        checkpoints: Checkpoints,
        name_rows: Callable[[list[int]], list[str]],
        on_step: StepCallback | None = None,
        on_measuring: Callable[[History, float], None] | None = None,
        last_step: int | None = None,
        group_weights: GroupWeights | None = None,
    ) -> None:
        self._model = model
        self._config = config
        self._objective = objective
        self._sampler = sampler
        self._measures = measures
        self._group = group
        self._name_rows = name_rows
        self._on_step = on_step
        self._on_measuring = on_measuring
        self._last_step = last_step or config.num_steps
        self._group_weights = group_weights
        named = trainable_parameters(model)
        self._parameters = list(named.values())
        self._optimizer = build_optimizer(model, training=config.training)
        self._state = TrainState(
            named,
            self._optimizer,
            group=group,
            checkpoints=checkpoints,
            asynchronous=config.asynchronous_checkpoints,
            seed=config.training.seed,
        )
        self._history = History()
        self._vocabulary_size = int(model.get_output_embeddings().weight.shape[0])
        self._flops = ModelFlops.of(model)
        self._peak_flops = peak_flops(group.device, precision=config.precision)
        self.resumed_from: int | None = None

    @property
    def num_trainable(self) -> int:
        """How many numbers training changes."""
        return sum(parameter.numel() for parameter in self._parameters)

    def run(self) -> History:
        """Train to the last step, planned or early; the best checkpoint is on disk then.

        Raises:
            VerdictError: the loss has exploded, or it or a gradient is no longer finite, or the
                budget of forgetting is spent; all workers raise it.
            OSError: a checkpoint could not be written.
            Left: a worker's pod is about to be taken away; all workers raise it.
        """
        # NB: not waited for. Who leaves before the first step has nothing to keep.
        self._begin()
        with waited_for():
            try:
                self._train()
            finally:
                # Also of a run that has failed: from its last checkpoint the next one goes on.
                self._state.wait()
        return self._history

    def _train(self) -> None:
        config = self._config
        # Of a run that was killed after its last step, early or not, there is nothing left to do.
        is_last = self._is_over()
        while not is_last:
            step = self._history.step + 1
            self._state.raise_failed()
            is_left = self._do_step(step)
            is_better = False
            is_measured = step == self._last_step or config.is_evaluated(step)
            # NB: measured before the checkpoint is written, so that a resumed run has the loss of
            # this step and need not measure again. A better step is always kept: its weights are
            # what the run is for.
            if is_measured:
                is_better = self._measure()
                is_last = self._is_over()
            if is_last or is_better or is_left or step % config.checkpoint_every == 0:
                self._state.save(self._history)
            self._report()
            if is_measured:
                # After the checkpoint, so that a run whose budget was raised goes on from it.
                keep_within_budget(self._history, config.training.forgetting_budget)
            if is_left and not is_last:
                raise Left(step)

    def load_best(self) -> None:
        """Put the weights of the best checkpoint into the model."""
        self._state.load_weights(self._history.best_step)

    def _begin(self) -> None:
        resumed = self._state.restore()
        if resumed is None:
            # Other dropout masks on each worker, where the adapters' first values were the same.
            self._state.seed_generators()
            self._history.units = {
                kind: [float(measure.num_units([row])) for row in range(len(measure.lengths))]
                for kind, measure in self._measures.items()
            }
            self._measure()
            # Said here too, before hours of training; the stage tells it at its end.
            base = self._history.held_out_at(0)
            doubt = doubt_about_base(base, vocab_size=self._vocabulary_size)
            if doubt and self._group.is_first:
                _log.warning("%s", doubt)
        else:
            self._history, self.resumed_from = resumed, resumed.step
            if self._group_weights is not None:
                self._group_weights.restore(resumed.group_weights)
            keep_within_budget(resumed, self._config.training.forgetting_budget)
        self._report()

    def _is_over(self) -> bool:
        # NB: of the history alone, which is in every checkpoint; also by the rule of patience.
        history = self._history
        return history.step >= self._last_step or stops_early(
            history.held_out_losses(), self._config.training.early_stopping
        )

    def _report(self) -> None:
        if self._on_step is not None:
            self._on_step(self._history, epoch=self._sampler.epoch_after(self._history.step))

    def _do_step(self, step: int) -> bool:
        """Do it; whether some worker's pod is about to be taken away."""
        started = time.monotonic()
        rows = self._sampler.rows_of(step)
        loss, grad_norm, positions, suspects, is_left = self._leave_gradients(rows)
        # NB: both were summed over the workers, so all of them raise, or none. It is checked before
        # the optimizer's step: afterwards every weight would be NaN, and so the next checkpoint.
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            what = f"training loss {loss}, gradient norm {grad_norm}"
            # NB: a sum over the workers, too; all of them come here.
            found = self._of_all_workers(suspects, batch=rows)
            raise self._no_number(what, step=step, rows=found or rows)
        rate = learning_rate(self._config, step=step)
        set_rate(self._optimizer, rate)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._group_weights is not None:
            # NB: of all workers, so that the next step counts alike on each of them.
            self._group_weights.move(self._group.all_reduce_sum(*self._group_weights.take_seen()))
            self._history.group_weights = self._group_weights.state
        tokens, seconds = self._objective.token_counts(rows), time.monotonic() - started
        self._history.record_step(
            Step(
                loss=loss,
                rate=rate,
                grad_norm=grad_norm,
                tokens=tokens,
                positions=positions,
                seconds=seconds,
                mfu=self._mfu(tokens, seconds=seconds),
                memory=memory_usage(self._group.device),
            )
        )
        # In front of the checkpoint, as after a measurement: one of a destroyed model could only
        # push out a good one.
        refuse_exploded_training(
            self._history, training=self._config.training, vocabulary_size=self._vocabulary_size
        )
        return is_left

    def _mfu(self, tokens: TokenCounts, *, seconds: float) -> float | None:
        """The part of their peak at which the devices of all workers have computed."""
        if self._flops is None or self._peak_flops is None or seconds <= 0:
            return None
        return self._flops.of_step(tokens) / (seconds * self._peak_flops * self._group.size)

    def _leave_gradients(self, rows: list[int]) -> tuple[float, float, int, list[int], bool]:
        """Leave the clipped gradient of the whole batch in the parameters.

        Return the mean loss per unit, the norm before clipping, the places that were computed, the
        rows of this worker's micro batches whose loss is no finite number, and whether some worker
        is told to leave.
        """
        self._model.train()
        # NB: the targets of the whole batch, of all workers. A mean over each micro batch,
        # averaged, would weigh a token of a short answer more than one of a long answer, and the
        # curve would depend on how many workers there are.
        num_units = self._objective.num_units(rows)
        share, computed, suspects = 0.0, 0, list[int]()
        for micro_batch, counts in self._passes(self._objective, rows):
            with whole_outer_weights(self._model):
                with self._autocast():
                    loss = self._objective.summed_loss(self._model, micro_batch)
                    loss = loss / num_units * counts
                # Outside of autocast, as torch asks: backward computes in the types of the forward
                # pass.
                loss.backward()
            if counts and self._group_weights is not None:
                self._group_weights.take_pass()
            share += loss.item()
            computed += self._objective.num_positions(micro_batch)
            if not math.isfinite(loss.item()):
                suspects += micro_batch
        # Sums, never averages: each worker has divided by the targets of all of them.
        self._group.all_reduce_gradients(self._parameters)
        # After the sum: the norm to be clipped is that of the batch, the same on every worker.
        max_norm = self._config.training.optimizer.max_grad_norm
        norm = whole(torch.nn.utils.clip_grad_norm_(self._parameters, max_norm))
        # NB: of all workers, who have to write a last checkpoint together.
        mean, positions, num_told = self._group.all_reduce_sum(
            share, computed, float(is_told_to_leave())
        )
        return mean, norm.item(), int(positions), suspects, num_told > 0

    def _measure(self) -> bool:
        """Measure every loss that is looked at; whether the held-out one is the best so far."""
        # Without dropout, so that it draws nothing from the generators: how often a run is measured
        # does not change what it learns.
        self._model.eval()
        with torch.no_grad(), whole_outer_weights(self._model), self._autocast():
            sums = self._row_losses()
        held_out = sum(sums[HELD_OUT])
        if not math.isfinite(held_out):
            raise self._no_number(f"held-out loss {held_out}", step=self._history.step, rows=[])
        control = self._config.training.control
        is_compared = control is not None and self._history.step <= control.steps
        is_better = self._history.record_measures(sums, is_compared=is_compared)
        refuse_exploded_measures(self._history, training=self._config.training)
        return is_better

    def _row_losses(self) -> dict[str, list[float]]:
        """The loss of every row of every measure."""
        sums = {kind: [0.0] * len(measure.lengths) for kind, measure in self._measures.items()}
        total, done = sum(map(len, sums.values())) / self._group.size, 0
        for kind, measure in self._measures.items():
            for rows, counts in self._passes(measure, list(range(len(sums[kind])))):
                losses = measure.row_losses(self._model, rows).tolist()
                for row, loss in zip(rows, losses, strict=True):
                    sums[kind][row] = loss if counts else sums[kind][row]
                done += len(rows) * counts
                if self._on_measuring is not None:
                    self._on_measuring(self._history, done / total)
        # Zeros of every worker but one: a row's loss does not depend on how many share the work.
        return {kind: self._group.all_reduce_sum(*losses) for kind, losses in sums.items()}

    def _no_number(self, what: str, *, step: int, rows: list[int]) -> VerdictError:
        return no_number(
            what,
            step=step,
            last_saved=self._state.last_saved,
            rows=self._name_rows(rows),
            training=self._config.training,
        )

    def _of_all_workers(self, suspects: list[int], *, batch: list[int]) -> list[int]:
        """The rows of `batch` that some worker suspects."""
        counts = self._group.all_reduce_sum(*(float(row in suspects) for row in batch))
        return [row for row, count in zip(batch, counts, strict=True) if count]

    def _passes(self, over: LossOverRows, rows: list[int]) -> list[tuple[list[int], bool]]:
        cut = packed_micro_batches if self._config.packing == "bfd" else micro_batches
        own = cut(
            rows,
            lengths=over.lengths,
            size=self._config.micro_batch_size,
            rank=self._group.rank,
            num_ranks=self._group.size,
        )
        shortest = min(rows, key=lambda row: int(over.lengths[row]))
        return self._group.equal_passes(own, filler=[shortest])

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self._group.device, precision=self._config.precision)


def autocast(
    device: torch.device, *, precision: Literal["bf16", "fp32"]
) -> AbstractContextManager[object]:
    """What every forward pass of a run computes under."""
    # No gradient scaler: bf16 has the exponents of fp32, so gradients do not vanish in it.
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
