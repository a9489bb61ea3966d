"""Mean losses of rows under the base model, for what prepare asks it before any training.

`training_rows` judges swapped rows by them, `unlikely_answers` the rows that were given. The model
is loaded when one of them asks, and is gone when they have their answer; prepare's estimate of
memory (`stages/memory.py`) knows the fields that ask.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.data.token_rows import TokenRows


def mean_losses(
    rows: TokenRows, *, model: Path, on_batch: Callable[[int, int], None] | None = None
) -> NDArray[np.float64]:
    """Nats per target of each row, shape (num_rows,); `on_batch(done, all)` comes after each batch.

    Raises:
        ValueError: there are no rows.
    """
    # Most jobs ask for nothing: torch takes seconds to import.
    from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring, score_rows

    losses = score_rows(load_for_scoring(model), rows, pad_id=0, on_batch=on_batch)
    return losses.sums / losses.weights
