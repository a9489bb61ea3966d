"""The training loop: what one worker does from the first step, or the last checkpoint, to the end.

Every worker runs it with its own place in the `WorkerGroup`; it needs no Ray, so tests call it
directly. The gradient of a step is that of the mean loss over all target tokens of the whole batch,
however the batch is cut into micro batches and dealt out to workers.
"""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import MicroBatch, RowSampler, collate, micro_batches
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.optimizer import (
    build_optimizer,
    learning_rate,
    set_rate,
    trainable_parameters,
)
from tunesmith_trainer.train.train_state import TrainState

# Any token id will do, and every vocabulary has this one: padding is never trained on.
_PAD_ID: Final = 0


class StepCallback(Protocol):
    """Called before the first step and after every one; shows people how far the run is."""

    def __call__(self, history: History, *, epoch: float) -> None: ...


class Loop:
    """One worker's training run."""

    def __init__(
        self,
        model: Any,
        *,
        config: TrainConfig,
        train: TokenRows,
        validation: TokenRows,
        group: WorkerGroup,
        checkpoints: Checkpoints,
        on_step: StepCallback | None = None,
    ) -> None:
        self._model = model
        self._config = config
        self._train = train
        self._validation = validation
        self._group = group
        self._on_step = on_step
        named = trainable_parameters(model)
        self._parameters = list(named.values())
        training = config.training
        self._optimizer = build_optimizer(named, optimizer=training.optimizer)
        self._sampler = RowSampler(len(train), batch_size=training.batch.size, seed=training.seed)
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
            is_better = (is_last or step % config.evaluate_every == 0) and self._evaluate()
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
            self._evaluate()
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
            tokens=int(self._train.lengths[rows].sum()),
            seconds=time.monotonic() - started,
        )

    def _leave_gradients(self, rows: list[int]) -> tuple[float, float]:
        """Leave the clipped gradient of the whole batch in the parameters.

        Return the mean loss per target and the norm before clipping.
        """
        self._model.train()
        # NB: the targets of the whole batch, of all workers. A mean over each micro batch,
        # averaged, would weigh a token of a short answer more than one of a long answer, and the
        # curve would depend on how many workers there are.
        num_targets = sum(int(self._train.row(row)[1].sum()) for row in rows)
        share = 0.0
        for batch in self._batches(self._train, rows):
            with self._autocast():
                loss = summed_loss(self._model, batch) / num_targets
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

    def _evaluate(self) -> bool:
        """Measure the held-out loss; whether it is the best after any training step."""
        # Without dropout, so that it draws nothing from the generators: how often a run is measured
        # does not change what it learns.
        self._model.eval()
        share, num_share = 0.0, 0
        with torch.no_grad(), self._autocast():
            for batch in self._batches(self._validation, list(range(len(self._validation)))):
                share += summed_loss(self._model, batch).item()
                num_share += len(batch.targets)
        total, num_targets = self._group.all_reduce_sum(share, num_share)
        loss = total / num_targets
        if not math.isfinite(loss):
            raise _diverged(f"held-out loss {loss}", step=self._history.step)
        return self._history.record_held_out(loss)

    def _batches(self, tokens: TokenRows, rows: list[int]) -> Iterator[MicroBatch]:
        for micro_batch in micro_batches(
            rows,
            lengths=tokens.lengths,
            size=self._config.training.batch.micro_batch_size,
            rank=self._group.rank,
            num_ranks=self._group.size,
        ):
            yield collate(tokens, micro_batch, pad_id=_PAD_ID, device=self._group.device)

    def _autocast(self) -> AbstractContextManager[object]:
        # No gradient scaler: bf16 has the exponents of fp32, so gradients do not vanish in it.
        return torch.autocast(
            self._group.device.type,
            dtype=torch.bfloat16,
            enabled=self._config.precision == "bf16",
        )


def summed_loss(model: Any, batch: MicroBatch) -> torch.Tensor:
    """Sum over the targets of their negative log-probability, in nats: a scalar, fp32.

    Without logits for any other position: with a vocabulary of 49 thousand and a mask over the
    prompts, the head would otherwise be most of the work and of the memory. The hidden states of
    the predicting positions are selected in front of the output head, so that whatever the model
    does with its logits afterwards (scaling, soft caps) still happens.
    """
    with _selected_in_front_of(model.get_output_embeddings(), positions=batch.positions):
        logits = model(input_ids=batch.input_ids, use_cache=False).logits
    # In fp32: autocast leaves bf16 logits, and the sum over a whole vocabulary needs more digits.
    return F.cross_entropy(logits.float(), batch.targets, reduction="sum")


@contextmanager
def _selected_in_front_of(head: torch.nn.Module, *, positions: torch.Tensor) -> Iterator[None]:
    def select(_head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (inputs[0].flatten(0, 1).index_select(0, positions),)

    # NB: removed again in any case. A hook that stayed would cut what `evaluate` and `export` read.
    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def _diverged(what: str, *, step: int) -> VerdictError:
    return VerdictError(
        Reason.LOSS_DIVERGED,
        f"step {step}: {what}; lower training.optimizer.learningRate or raise "
        "training.schedule.warmupRatio",
    )
