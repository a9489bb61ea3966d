"""Which rows of a remedy are new: none that is there, and none that asks what held-out rows ask."""

from collections import Counter
from collections.abc import Sequence

from tunesmith_trainer.data.cleaning.row_keys import question_key, row_key
from tunesmith_trainer.data.rows import Row


class NewRows:
    """Remembers what was taken; `refused` counts what was not, by cause."""

    def __init__(
        self, rows: Sequence[Row], held_out: Sequence[Row], *, refused: Counter[str]
    ) -> None:
        self._known = {row_key(row) for row in (*rows, *held_out)}
        self._asked = {question_key(row) for row in held_out}
        self._refused = refused

    def takes(self, row: Row) -> bool:
        """Whether the row is new; from then on it no longer is."""
        key = row_key(row)
        if question_key(row) in self._asked:
            self._refused["heldOut"] += 1
        elif key in self._known:
            self._refused["duplicate"] += 1
        else:
            self._known.add(key)
            return True
        return False
