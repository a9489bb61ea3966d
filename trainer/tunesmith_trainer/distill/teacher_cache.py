"""A few tokens that the teacher chooses of each target, once, on disk.

`sampled`: drawn by their probability, a dozen of them do (Random Sampling KD, arXiv 2503.16870).
`topK`: the most probable, with the probabilities that they have among themselves: a teacher that is
biased, being too sure of itself. They are chosen some rows at a time, and drawn each time from a
seed of its own: what is killed goes on where it was, and draws the same.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, predicting_states
from tunesmith_trainer.train.objectives.distillation import CachedTokens, teacher_logprobs

ROWS_PER_FILE: Final = 64
# Positions whose logits are held at a time.
_CHUNK: Final = 256
_STORED: Final = np.dtype([("token", np.int32), ("weight", np.float32)])

OnFile = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CachingPass:
    """How tokens are chosen: as many as `samples` of each target, below `folder`."""

    teacher: Any
    rows: CrossEntropy
    autocast: Callable[[], AbstractContextManager[object]]
    folder: Path
    logits: Literal["sampled", "topK"]
    samples: int
    temperature: float
    seed: int

    def run(self, numbers: Sequence[int], *, on_file: OnFile) -> "CachedRows":
        """Choose for the rows with these numbers, or read what was chosen before.

        Raises:
            OSError: the disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = sorted(numbers)
        groups = [rows[at : at + ROWS_PER_FILE] for at in range(0, len(rows), ROWS_PER_FILE)]
        chosen: dict[int, NDArray[np.void]] = {}
        for number, group in enumerate(groups):
            path = self.folder / f"{number:06}.npy"
            if not path.exists():
                self._write(path, self._chosen(group, number=number))
            stored = np.load(path, mmap_mode="r")
            counts = [self.rows.num_units([row]) for row in group]
            parts = np.split(stored, np.cumsum(counts)[:-1])
            chosen |= dict(zip(group, parts, strict=True))
            on_file(number + 1, len(groups))
        return CachedRows(chosen)

    def _chosen(self, group: list[int], *, number: int) -> NDArray[np.void]:
        device = next(self.teacher.parameters()).device
        generator = torch.Generator(device=device).manual_seed(self.seed * 1_000_003 + number)
        chosen = []
        with torch.no_grad(), self.autocast():
            for row in group:
                hidden = predicting_states(self.teacher, self.rows.collated([row]))
                for start in range(0, len(hidden.states), _CHUNK):
                    part = slice(start, start + _CHUNK)
                    probabilities = teacher_logprobs(
                        hidden, part, temperature=self.temperature
                    ).exp()
                    chosen.append(_stored(self._tokens_of(probabilities, generator)))
        return np.concatenate(chosen)

    def _tokens_of(self, probabilities: torch.Tensor, generator: torch.Generator) -> CachedTokens:
        if self.logits == "topK":
            top = probabilities.topk(min(self.samples, probabilities.shape[-1]), dim=-1)
            return CachedTokens(top.indices, top.values / top.values.sum(dim=-1, keepdim=True))
        drawn = torch.multinomial(
            probabilities, self.samples, replacement=True, generator=generator
        )
        return CachedTokens(drawn, torch.full_like(drawn, 1.0 / self.samples, dtype=torch.float32))

    def _write(self, path: Path, chosen: NDArray[np.void]) -> None:
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            np.save(file, chosen)
        temporary.replace(path)


@dataclass(frozen=True, slots=True)
class CachedRows:
    """What was chosen, by row: arrays of (targets, samples) with fields `token` and `weight`."""

    by_row: dict[int, NDArray[np.void]]

    def of_row(self, row: int) -> CachedTokens:
        """Shape (targets of the row, samples)."""
        cached = self.by_row[row]
        return CachedTokens(
            torch.from_numpy(cached["token"].astype(np.int64)),
            torch.from_numpy(cached["weight"].astype(np.float32)),
        )


def _stored(cached: CachedTokens) -> NDArray[np.void]:
    stored = np.empty(cached.tokens.shape, _STORED)
    stored["token"], stored["weight"] = cached.tokens.cpu(), cached.weights.cpu()
    return stored
