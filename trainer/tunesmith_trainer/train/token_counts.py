"""Tokens of a step: how many are read, how many of them are trained, how many places are padding.

Objectives count their rows with it; the `loop` adds up the places that its forward passes compute.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tunesmith_trainer.data.token_rows import TokenRows


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of some rows.

    Attributes:
        total: all of them.
        trained: those that are predicted, and that the loss is made of.
        inputs: those that the model has to read: what follows the last target of a row predicts
            nothing, and that target is only ever predicted.
        attended: the inputs of every row squared and added up, which attention is paid by.
    """

    total: int
    trained: int
    inputs: int
    attended: int


def count_tokens(tokens: TokenRows, rows: Iterable[int]) -> TokenCounts:
    """The tokens of `rows`; each has at least one target."""
    masks = [tokens.row(row)[1] for row in rows]
    inputs = [int(np.flatnonzero(trained)[-1]) for trained in masks]
    return TokenCounts(
        total=sum(len(trained) for trained in masks),
        trained=sum(int(trained.sum()) for trained in masks),
        inputs=sum(inputs),
        attended=sum(length * length for length in inputs),
    )


def input_lengths(tokens: TokenRows, rows: Iterable[int]) -> list[int]:
    """How many tokens of each of `rows` the model has to read."""
    return [int(np.flatnonzero(tokens.row(row)[1])[-1]) for row in rows]
