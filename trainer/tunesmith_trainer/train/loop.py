"""The training loop: what one worker does from the first step, or the last checkpoint, to the end.

Every worker runs it with its own `Ranks`; it needs no Ray, so tests call it directly. The gradient
of a step is that of the mean loss over all target tokens of the whole batch, however the batch is
cut into micro batches and dealt out to workers.
"""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import Ranks
from tunesmith_trainer.train.config import Recipe
from tunesmith_trainer.train.curve import train_point
from tunesmith_trainer.train.dataloader import MicroBatch, micro_batch
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.loss import summed_loss
from tunesmith_trainer.train.optimizer import build_optimizer, set_rate, trainable_parameters
from tunesmith_trainer.train.order import RowOrder, micro_batches
from tunesmith_trainer.train.schedule import learning_rate
from tunesmith_trainer.train.train_state import Snapshot


class Watcher(Protocol):
    """Told before the first step and after every one; shows people how far the run is."""

    def __call__(self, history: History, *, epoch: float) -> None: ...


class Loop:
    """One worker's training run. `pad_id` is any token id; padding is never trained on."""

    def __init__(
        self,
        model: Any,
        *,
        recipe: Recipe,
        train: TokenRows,
        validation: TokenRows,
        pad_id: int,
        ranks: Ranks,
        checkpoints: Checkpoints,
        watch: Watcher,
    ) -> None:
        self._model = model
        self._recipe = recipe
        self._train = train
        self._validation = validation
        self._pad_id = pad_id
        self._ranks = ranks
        self._watch = watch
        named = trainable_parameters(model)
        self._parameters = list(named.values())
        self._optimizer = build_optimizer(named, recipe=recipe)
        self._order = RowOrder(len(train), batch_size=recipe.batch_size, seed=recipe.seed)
        self._snapshot = Snapshot(named, self._optimizer, ranks=ranks, checkpoints=checkpoints)
        self._history = History()
        self.resumed_from: int | None = None

    @property
    def num_trainable(self) -> int:
        """How many numbers training changes."""
        return sum(each.numel() for each in self._parameters)

    def run(self) -> History:
        """Train to the last planned step; the best checkpoint is on disk then.

        Raises:
            VerdictError: the loss or a gradient is no longer finite; all workers raise it.
        """
        self._begin()
        for step in range(self._history.step + 1, self._recipe.num_steps + 1):
            self._do_step(step)
            is_last = step == self._recipe.num_steps
            is_better = (is_last or step % self._recipe.evaluate_every == 0) and self._evaluate()
            if is_last or is_better or step % self._recipe.checkpoint_every == 0:
                self._snapshot.keep(self._history)
            self._watch(self._history, epoch=self._order.epoch_after(step))
        return self._history

    def load_best(self) -> None:
        """Put the weights of the best checkpoint into the model."""
        self._snapshot.put_weights_of(self._history.best_step)

    def _begin(self) -> None:
        resumed = self._snapshot.resume()
        if resumed is None:
            seed = np.random.SeedSequence([self._recipe.seed, self._ranks.rank])
            torch.manual_seed(int(seed.generate_state(1)[0]))
            self._evaluate()
        else:
            self._history, self.resumed_from = resumed, resumed.step
        self._watch(self._history, epoch=self._order.epoch_after(self._history.step))

    def _do_step(self, step: int) -> None:
        started = time.monotonic()
        rows = self._order.rows_of(step)
        loss, grad_norm = self._leave_gradients(rows)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise _diverged(f"training loss {loss}, gradient norm {grad_norm}", step=step)
        rate = learning_rate(self._recipe, step=step)
        set_rate(self._optimizer, rate)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        tokens = int(self._train.lengths[rows].sum())
        seconds = time.monotonic() - started
        point = train_point(
            step, loss=loss, rate=rate, grad_norm=grad_norm, tokens=tokens, seconds=seconds
        )
        self._history.record_step(point, tokens=tokens, seconds=seconds)

    def _leave_gradients(self, rows: list[int]) -> tuple[float, float]:
        """Leave the clipped gradient of the whole batch in the parameters.

        Return the mean loss per target and the norm before clipping.
        """
        self._model.train()
        num_targets = sum(int(self._train.row(row)[1].sum()) for row in rows)
        share = 0.0
        for batch in self._batches(self._train, rows):
            with self._autocast():
                loss = summed_loss(self._model, batch) / num_targets
            loss.backward()
            share += loss.item()
        self._ranks.sum_gradients(self._parameters)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._recipe.max_grad_norm)
        (mean,) = self._ranks.sum_of(share)
        return mean, norm.item()

    def _evaluate(self) -> bool:
        """Measure the held-out loss; whether it is the best after any training step."""
        self._model.eval()
        share, num_share = 0.0, 0
        with torch.no_grad(), self._autocast():
            for batch in self._batches(self._validation, list(range(len(self._validation)))):
                share += summed_loss(self._model, batch).item()
                num_share += len(batch.targets)
        total, num_targets = self._ranks.sum_of(share, num_share)
        loss = total / num_targets
        if not math.isfinite(loss):
            raise _diverged(f"held-out loss {loss}", step=self._history.step)
        return self._history.record_held_out(loss)

    def _batches(self, tokens: TokenRows, rows: list[int]) -> Iterator[MicroBatch]:
        for each in micro_batches(
            rows,
            lengths=tokens.lengths,
            size=self._recipe.micro_batch_size,
            rank=self._ranks.rank,
            num_ranks=self._ranks.size,
        ):
            yield micro_batch(tokens, each, pad_id=self._pad_id, device=self._ranks.device)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(
            self._ranks.device.type,
            dtype=torch.bfloat16,
            enabled=self._recipe.precision == "bf16",
        )


def _diverged(what: str, *, step: int) -> VerdictError:
    return VerdictError(
        Reason.LOSS_DIVERGED,
        f"step {step}: {what}; lower training.optimizer.learningRate or raise "
        "training.schedule.warmupRatio",
    )
