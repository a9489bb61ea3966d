"""Training rows and held-out rows, apart from each other.

The last step before the rows are written. Rows that share a key go to the same side together.
Which side is decided by a digest of the seed and the key, so that the order of the rows in their
files does not matter, and the same seed gives the same split on every machine.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

Key = TypeVar("Key", bound=Hashable)


def split_rows(keys: Sequence[Key], *, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of the training rows and of the validation rows, each ascending.

    The validation side gets whole groups as long as they fit into `fraction` of the rows, and at
    least one group; one group at least stays for training.

    Raises:
        BadInputError: all rows share one key, so that one side would be empty.
    """
    groups: dict[Key, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    if len(groups) < 2:  # noqa: PLR2004 - one for each side
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"no validation rows left: the {len(keys)} row(s) that remain share one first "
            "question, and such rows are never on both sides of the split; add rows, or give "
            "dataset.validation",
        )
    wanted = max(1, int(fraction * len(keys) + 0.5))
    validation = sorted(_held_out(_shuffled(groups, seed), wanted=wanted))
    held_out = set(validation)
    return [at for at in range(len(keys)) if at not in held_out], validation


def _shuffled(groups: dict[Key, list[int]], seed: int) -> list[list[int]]:
    def place(item: tuple[Key, list[int]]) -> bytes:
        return hashlib.sha256(f"{seed}\0{item[0]!r}".encode("utf-8", "surrogatepass")).digest()

    return [rows for _, rows in sorted(groups.items(), key=place)]


def _held_out(groups: list[list[int]], *, wanted: int) -> list[int]:
    """Groups that fit, in order; the smallest where none does."""
    chosen: list[int] = []
    for group in groups[:-1]:
        if len(chosen) + len(group) <= wanted:
            chosen += group
    return chosen or min(groups, key=len)
