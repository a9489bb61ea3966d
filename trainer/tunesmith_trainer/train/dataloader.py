"""Rows as tensors: padded to the longest of the micro batch, with the targets picked out.

`loop` builds one for every forward pass, `loss` reads it.
"""

from dataclasses import dataclass

import numpy as np
import torch

from tunesmith_trainer.data.token_rows import TokenRows


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The rows of one forward pass.

    `input_ids` has shape (rows, length) and is padded on the right. `positions` (targets,) points
    into the flattened inputs at the tokens that predict; `targets` (targets,) are the token ids
    to be predicted there.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor


def micro_batch(
    tokens: TokenRows, rows: list[int], *, pad_id: int, device: torch.device
) -> MicroBatch:
    """Pad `rows`.

    What follows the last target of a row predicts nothing and is cut. The model sees no attention
    mask: it is causal, and padding only follows the tokens that matter.
    """
    read = [_up_to_last_target(*tokens.row(row)) for row in rows]
    length = max(len(ids) for ids, _ in read) - 1
    input_ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    positions, targets = [], []
    for index, (ids, trained) in enumerate(read):
        input_ids[index, : len(ids) - 1] = ids[:-1]
        predicted = np.flatnonzero(trained)
        positions.append(predicted - 1 + index * length)
        targets.append(ids[predicted].astype(np.int64))
    return MicroBatch(
        input_ids=torch.from_numpy(input_ids).to(device),
        positions=torch.from_numpy(np.concatenate(positions)).to(device),
        targets=torch.from_numpy(np.concatenate(targets)).to(device),
    )


def _up_to_last_target(
    ids: np.typing.NDArray[np.int32], trained: np.typing.NDArray[np.bool_]
) -> tuple[np.typing.NDArray[np.int32], np.typing.NDArray[np.bool_]]:
    end = int(np.flatnonzero(trained)[-1]) + 1
    return ids[:end], trained[:end]
