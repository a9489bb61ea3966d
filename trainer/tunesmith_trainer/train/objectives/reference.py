"""What the model says of the pairs before the first step, which DPO holds it to.

Computed once, for adapters as for full fine-tuning: one forward pass over the pairs that will be
drawn, instead of one more in every step, and no second model in memory. It is kept in the stage's
output, so that a resumed run need not compute it again.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.dataloader import micro_batches
from tunesmith_trainer.train.objectives.pairs import Pairs
from tunesmith_trainer.train.sharding import whole_outer_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePass:
    """How the pass is made; it belongs to the run with this `config_digest`."""

    model: Any
    group: WorkerGroup
    autocast: Callable[[], AbstractContextManager[object]]
    micro_batch_size: int
    config_digest: str

    def log_probabilities(
        self, pairs: Pairs, rows: Iterable[int], *, file: Path
    ) -> tuple[torch.Tensor, float]:
        """Log-probabilities of the answers of `rows`, shape (2, pairs); and the seconds it took.

        They are read from `file`, or computed by all workers together and then kept there.

        NB: every worker has to call it, before the weights of a checkpoint are put into the model.
        """
        kept = self._read(file, num_pairs=len(pairs))
        # One worker may see a file that another does not see yet; all of them compute, or none.
        (num_readers,) = self.group.all_reduce_sum(float(kept is not None))
        if kept is not None and num_readers == self.group.size:
            return kept
        started = time.monotonic()
        computed = self._compute(pairs, sorted(set(rows)))
        seconds = time.monotonic() - started
        if self.group.is_first:
            temporary = file.with_name(f".{file.name}.part")
            told = {"configDigest": self.config_digest, "seconds": repr(seconds)}
            save_file({"logprobs": computed.cpu()}, temporary, metadata=told)
            temporary.replace(file)
        return computed, seconds

    def _read(self, file: Path, *, num_pairs: int) -> tuple[torch.Tensor, float] | None:
        try:
            with safe_open(file, framework="pt") as stored:
                told, values = stored.metadata(), stored.get_tensor("logprobs")
        except (OSError, SafetensorError):  # none yet, or cut off: it is computed again
            return None
        if told["configDigest"] != self.config_digest or values.shape != (2, num_pairs):
            return None
        return values.to(self.group.device), float(told["seconds"])

    def _compute(self, pairs: Pairs, rows: list[int]) -> torch.Tensor:
        own = torch.zeros((2, len(pairs)), device=self.group.device)
        share = micro_batches(
            rows,
            lengths=pairs.lengths,
            size=self.micro_batch_size,
            rank=self.group.rank,
            num_ranks=self.group.size,
        )
        # Without dropout, which a model of comparison has not.
        self.model.eval()
        shortest = min(rows, key=lambda row: int(pairs.lengths[row]))
        with torch.no_grad(), whole_outer_weights(self.model), self.autocast():
            for batch, counts in self.group.equal_passes(share, filler=[shortest]):
                values = pairs.log_probabilities(self.model, batch)
                if counts:
                    own[:, batch] = values
        # Every pair is one worker's, so that the sum is its number.
        totals = self.group.all_reduce_sum(*own.flatten().tolist())
        return torch.tensor(totals, device=self.group.device).view(2, len(pairs))
