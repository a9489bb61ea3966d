"""Log-likelihood of token rows under a model, and how a model is loaded to be scored.

One sum per row, so that `bootstrap.py` can draw intervals over rows. `evaluate` scores the base and
the tuned model, `compress` the tuned and the quantized one: one arithmetic stands behind every
number of a job, although the two stages run with different versions of the libraries.

Scoring runs in fp32 whatever the training's precision: it is the same on every machine, and on
processors without bf16 units it is several times faster than bf16.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import PreTrainedModel

from tunesmith_engine.stages.memory import FP32, SCORING_LOGITS_BYTES
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.devices import current_device
from tunesmith_trainer.hidden_states import HiddenStates
from tunesmith_trainer.models import load_model

BATCH_TOKENS = 2048

OnBatch = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RowLosses:
    """Losses of rows, in the order of the rows.

    `sums` are nats summed over the targets of each row, `weights` the numbers of targets; both
    have shape (num_rows,).
    """

    sums: NDArray[np.float64]
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Padded rows; tensors have shape (rows, columns)."""

    order: list[int]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    trained: torch.Tensor


def load_for_scoring(folder: Path) -> PreTrainedModel:
    """The model in fp32, on the accelerator if there is one, without dropout."""
    return ready_for_scoring(load_model(folder, dtype=torch.float32))


def ready_for_scoring(model: PreTrainedModel) -> PreTrainedModel:
    """`model` on the accelerator if there is one, without dropout."""
    return model.to(current_device()).eval()


def score_rows(
    model: PreTrainedModel,
    rows: TokenRows,
    *,
    pad_id: int,
    batch_tokens: int = BATCH_TOKENS,
    on_batch: OnBatch | None = None,
) -> RowLosses:
    """Sum the negative log-likelihood of the target tokens of each row.

    Rows of similar length share a batch of at most `batch_tokens` tokens, padding included, or of
    one row. `on_batch(rows_done, rows)` is called after each batch.

    Raises:
        ValueError: there are no rows.
    """
    if not len(rows):
        raise ValueError("no rows to score")
    sums = np.zeros(len(rows), dtype=np.float64)
    done = 0
    for batch in _batches(rows, pad_id=pad_id, batch_tokens=batch_tokens):
        sums[batch.order] = _batch_sums(model, batch)
        done += len(batch.order)
        if on_batch:
            on_batch(done, len(rows))
    # NB: reduceat takes an empty row for the start of the next one. Prepare leaves empty rows out.
    weights = np.add.reduceat(rows.trained, rows.offsets[:-1], dtype=np.float64)
    return RowLosses(sums=sums, weights=weights)


def token_logprobs(
    model: PreTrainedModel, input_ids: Sequence[int], *, num_last: int
) -> list[float]:
    """Log-probability (nats) of each of the last `num_last` tokens, given all tokens before it."""
    ids = torch.tensor([list(input_ids)], device=model.device)
    # The logits at a position are those of the next token.
    first = len(input_ids) - num_last
    positions = torch.arange(first - 1, len(input_ids) - 1, device=model.device)
    logprobs: list[float] = []
    with torch.inference_mode():
        for logits in chunked_logits(model, ids, positions=positions):
            targets = ids[0, first + len(logprobs) :][: len(logits), None]
            logprobs += logits.log_softmax(dim=-1).gather(1, targets)[:, 0].tolist()
    return logprobs


def chunked_logits(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    *,
    positions: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
) -> Iterator[torch.Tensor]:
    """Logits at `positions` of the flattened inputs, in fp32, a chunk (positions, vocabulary) each.

    The blocks run once over `input_ids` of shape (rows, columns). Of the logits, the largest tensor
    that there is, never more than `SCORING_LOGITS_BYTES` are held: all of 4,096 positions of a
    vocabulary of 262 thousand would be 4 GiB, and their softmax as much again.
    """
    hidden = HiddenStates(
        model, positions=positions, input_ids=input_ids, attention_mask=attention_mask
    )
    chunk = max(1, SCORING_LOGITS_BYTES // (FP32 * hidden.head.weight.shape[0]))
    for states in hidden.states.split(chunk):
        yield hidden.logits(states)


def _batches(rows: TokenRows, *, pad_id: int, batch_tokens: int) -> Iterator[_Batch]:
    # By length, so that little of a batch is padding; stable, so that the same rows give the same
    # batches, and with them the same sums to the last bit.
    lengths = np.diff(rows.offsets)
    order: list[int] = []
    for index in np.argsort(lengths, kind="stable").tolist():
        if order and lengths[index] * (len(order) + 1) > batch_tokens:
            yield _padded(rows, order, pad_id=pad_id)
            order = []
        order.append(index)
    yield _padded(rows, order, pad_id=pad_id)


def _padded(rows: TokenRows, order: list[int], *, pad_id: int) -> _Batch:
    width = max(len(rows.row(index)[0]) for index in order)
    input_ids = torch.full((len(order), width), pad_id)
    attention_mask = torch.zeros((len(order), width), dtype=torch.long)
    trained = torch.zeros((len(order), width), dtype=torch.bool)
    # On the right: under a causal mask padding there cannot reach a target, and positions count
    # from 0 without a word from us.
    for place, index in enumerate(order):
        ids, targets = rows.row(index)
        input_ids[place, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
        attention_mask[place, : len(ids)] = 1
        trained[place, : len(ids)] = torch.from_numpy(targets.copy())
    return _Batch(order, input_ids, attention_mask, trained)


def _batch_sums(model: PreTrainedModel, batch: _Batch) -> NDArray[np.float64]:
    """The loss of each row, shape (rows,); only targets are predicted."""
    # Shifted by one: a target is predicted at the column before.
    rows, columns = batch.trained[:, 1:].nonzero(as_tuple=True)
    labels = batch.input_ids[:, 1:][rows, columns].to(model.device)
    losses = []
    done = 0
    with torch.inference_mode():
        for logits in chunked_logits(
            model,
            batch.input_ids.to(model.device),
            positions=(rows * batch.input_ids.shape[1] + columns).to(model.device),
            attention_mask=batch.attention_mask.to(model.device),
        ):
            of_chunk = labels[done : done + len(logits)]
            losses.append(F.cross_entropy(logits, of_chunk, reduction="none"))
            done += len(logits)
    sums = np.zeros(len(batch.order))
    # In fp64 from here on: rows have thousands of targets, and differences of sums are judged.
    np.add.at(sums, rows.numpy(), torch.cat(losses).double().cpu().numpy() if losses else 0.0)
    return sums
