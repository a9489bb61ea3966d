"""What the loop knows of a loss: a sum over rows, and what it is a mean of.

An `Objective` is minimised, a `Measure` looked at; one class may be both.
"""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_trainer.train.token_counts import TokenCounts


class LossOverRows(Protocol):
    """A loss over the rows of one set; row numbers count from 0."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,): micro batches and workers are filled by them."""
        ...

    def num_units(self, rows: list[int]) -> int:
        """What the loss of `rows` is a mean of: their targets, or their pairs."""
        ...


class Objective(LossOverRows, Protocol):
    """A loss that is minimised."""

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """The loss of one micro batch, summed over its units: a scalar in nats, fp32."""
        ...

    def token_counts(self, rows: list[int]) -> TokenCounts:
        """The tokens of `rows`, however they are batched."""
        ...

    def num_positions(self, rows: list[int]) -> int:
        """Places that the forward pass of one micro batch computes, padding among them."""
        ...


class Measure(LossOverRows, Protocol):
    """A loss that is only looked at: without gradients, in evaluation mode."""

    def row_losses(self, model: Any, rows: list[int]) -> torch.Tensor:
        """The loss of each of `rows`, summed over its units: shape (rows,) in nats.

        Of each row, so that intervals can be drawn over rows.
        """
        ...
