"""KL divergence of a smaller model from the tuned one, in nats a token.

The loss sees the probability of one token at each place; the divergence sees all of them, and so
notices a model that is as good and another. The tuned model's log-probabilities wait on disk, so
that never two models are in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.log_likelihood import RowLosses, chunked_logits
from tunesmith_trainer.evaluate.suites import mean_loss

# Places at most, and bytes: a place is the whole vocabulary in fp32.
_MOST_PLACES: Final = 1024
_MOST_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Distributions:
    """Log-probabilities, shape (places, vocabulary), behind the targets of `rows`, on disk."""

    rows: TokenRows
    logprobs: NDArray[np.float32]

    @classmethod
    def of(cls, model: PreTrainedModel, rows: TokenRows, *, folder: Path) -> "Distributions":
        """Those of the model at the first targets of the rows, in a file of no name."""
        vocabulary = int(model.config.get_text_config().vocab_size)
        most = max(1, min(_MOST_PLACES, _MOST_BYTES // (4 * vocabulary)))
        chosen = _first_rows(rows, most=most)
        places = sum(len(_places(chosen, index)) for index in range(len(chosen)))
        path = folder / "tuned-logprobs.npy"
        stored = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float32, shape=(min(most, places), vocabulary)
        )
        # It stays as long as it is mapped, and is gone with this process, however that ends.
        path.unlink()
        done = 0
        for _, chunk in _logprobs(model, chosen):
            part = chunk[: len(stored) - done]
            stored[done : done + len(part)] = part.cpu().numpy()
            done += len(part)
        return cls(chosen, stored)

    def kl_to(self, model: PreTrainedModel, *, most: int | None = None) -> float:
        """Mean of KL(stored, model's) over the places, or the first `most` of them."""
        return mean_loss(self.divergence_of(model, most=most))

    def divergence_of(self, model: PreTrainedModel, *, most: int | None = None) -> RowLosses:
        """KL(stored, model's) summed over the places of each row, the last of which may be cut."""
        places = len(self.logprobs) if most is None else min(most, len(self.logprobs))
        sums, weights = np.zeros(len(self.rows)), np.zeros(len(self.rows))
        done = 0
        for row, chunk in _logprobs(model, self.rows):
            others = chunk[: places - done].double().cpu()
            own = torch.from_numpy(self.logprobs[done : done + len(others)].astype(np.float64))
            sums[row] += float((own.exp() * (own - others)).sum())
            weights[row] += len(others)
            done += len(others)
            if done == places:
                break
        # Of equal distributions rounding leaves a trifle on either side of nothing.
        seen = weights > 0
        return RowLosses(sums=np.maximum(sums[seen], 0.0), weights=weights[seen])


def _first_rows(rows: TokenRows, *, most: int) -> TokenRows:
    """The first rows that together have so many targets."""
    targets = np.add.reduceat(rows.trained, rows.offsets[:-1], dtype=np.int64)
    number = int(np.searchsorted(np.cumsum(targets), most)) + 1
    return rows.subset(list(range(min(number, len(rows)))))


def _places(rows: TokenRows, index: int) -> NDArray[np.int64]:
    """Where a row's targets are predicted: the logits at a place are those of the next token."""
    return np.flatnonzero(rows.row(index)[1][1:])


def _logprobs(model: PreTrainedModel, rows: TokenRows) -> Iterator[tuple[int, torch.Tensor]]:
    """Those behind the targets, some places of a row at a time."""
    for index in range(len(rows)):
        places = torch.from_numpy(_places(rows, index))
        given = torch.from_numpy(rows.row(index)[0].astype(np.int64))[None]
        if not len(places):
            continue
        with torch.inference_mode():
            for logits in chunked_logits(
                model, given.to(model.device), positions=places.to(model.device)
            ):
                yield index, logits.log_softmax(dim=-1)
