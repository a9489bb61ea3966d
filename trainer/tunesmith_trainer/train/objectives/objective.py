"""The one thing the loop knows of a loss: a sum over rows, and what it is a mean of."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Objective(Protocol):
    """A loss over the rows of one set; row numbers count from 0."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,): micro batches and workers are filled by them."""
        ...

    def num_units(self, rows: list[int]) -> int:
        """What the loss of `rows` is a mean of: their targets, or their pairs."""
        ...

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """The loss of one micro batch, summed over its units: a scalar in nats, fp32.

        Called with gradients in training and without them where a set is only measured.
        """
        ...
