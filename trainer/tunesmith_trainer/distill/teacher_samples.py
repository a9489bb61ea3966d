"""Tokens that the teacher draws of each target, once, on disk: Random Sampling KD.

The most probable tokens alone would be a biased teacher, too sure of itself; tokens drawn by their
probability are none, and a dozen of them do (arXiv 2503.16870). They are drawn some rows at a time,
each time from a seed of its own: what is killed goes on where it was, and draws the same.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, predicting_states
from tunesmith_trainer.train.objectives.distillation import teacher_logprobs

ROWS_PER_FILE: Final = 64
# Positions whose logits are held at a time.
_CHUNK: Final = 256

OnFile = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPass:
    """How tokens are drawn: as many as `samples` of each target, below `folder`."""

    teacher: Any
    rows: CrossEntropy
    autocast: Callable[[], AbstractContextManager[object]]
    folder: Path
    samples: int
    temperature: float
    seed: int

    def draw(self, numbers: Sequence[int], *, on_file: OnFile) -> "DrawnTokens":
        """Draw for the rows with these numbers, or read what was drawn before.

        Raises:
            OSError: the disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = sorted(numbers)
        groups = [rows[at : at + ROWS_PER_FILE] for at in range(0, len(rows), ROWS_PER_FILE)]
        drawn: dict[int, NDArray[np.int32]] = {}
        for number, group in enumerate(groups):
            path = self.folder / f"{number:06}.npy"
            if not path.exists():
                self._write(path, self._drawn(group, number=number))
            stored = np.load(path, mmap_mode="r")
            counts = [self.rows.num_units([row]) for row in group]
            parts = np.split(stored, np.cumsum(counts)[:-1])
            drawn |= dict(zip(group, parts, strict=True))
            on_file(number + 1, len(groups))
        return DrawnTokens(drawn)

    def _drawn(self, group: list[int], *, number: int) -> NDArray[np.int32]:
        device = next(self.teacher.parameters()).device
        generator = torch.Generator(device=device).manual_seed(self.seed * 1_000_003 + number)
        tokens = []
        with torch.no_grad(), self.autocast():
            for row in group:
                hidden = predicting_states(self.teacher, self.rows.collated([row]))
                for start in range(0, len(hidden.states), _CHUNK):
                    part = slice(start, start + _CHUNK)
                    probabilities = teacher_logprobs(
                        hidden, part, temperature=self.temperature
                    ).exp()
                    tokens.append(
                        torch.multinomial(
                            probabilities, self.samples, replacement=True, generator=generator
                        ).cpu()
                    )
        return torch.cat(tokens).numpy().astype(np.int32)

    def _write(self, path: Path, tokens: NDArray[np.int32]) -> None:
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            np.save(file, tokens)
        temporary.replace(path)


@dataclass(frozen=True, slots=True)
class DrawnTokens:
    """What was drawn, by row."""

    by_row: dict[int, NDArray[np.int32]]

    def of_row(self, row: int) -> torch.Tensor:
        """Shape (targets of the row, samples)."""
        return torch.from_numpy(self.by_row[row].astype(np.int64))
