"""The game whose players are the units of a prompt: what the answer is worth with some of them.

The value of a coalition is the mean log-likelihood of the answer's tokens (nats) where all other
units are cut out of the prompt. What all coalitions begin with is read once. A coalition is scored
once, whichever methods ask for it.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from tunesmith_trainer.evaluate.log_likelihood import BATCH_TOKENS
from tunesmith_trainer.explain.units import RowText, Unit
from tunesmith_trainer.hidden_states import HiddenStates

Masks = NDArray[np.bool_]
Values = NDArray[np.float64]

# Below, the cache costs more than it spares.
_SHORTEST_PREFIX: Final = 8


class UndefinedValueError(Exception):
    """The model gives no finite likelihood, or an attribution is not finite."""


class Game:
    """The coalitions of one row; masks have shape (coalitions, units)."""

    def __init__(
        self, model: PreTrainedModel, row: RowText, units: Sequence[Unit], *, pad_id: int
    ) -> None:
        self.model = model
        self.row = row
        self.units = list(units)
        self._pad_id = pad_id
        self._known: dict[bytes, float] = {}
        # Told how many coalitions are scored, on the way.
        self.on_scored: Callable[[int], None] = lambda _number: None
        self._owner = np.full(row.num_prompt, -1)
        for number, unit in enumerate(units):
            self._owner[list(unit.tokens)] = number
        first = min(unit.tokens[0] for unit in units)
        self._prefix = row.ids[:first]
        self._cache = self._read_prefix() if first >= _SHORTEST_PREFIX else None

    @property
    def num_units(self) -> int:
        """How many players there are."""
        return len(self.units)

    @property
    def num_scored(self) -> int:
        """How many coalitions were scored, each by one forward pass."""
        return len(self._known)

    @property
    def shares_prefix(self) -> bool:
        """Whether the beginning of the prompt is read only once."""
        return self._cache is not None

    def values(self, masks: Masks) -> Values:
        """The worth of each coalition.

        Raises:
            UndefinedValueError: one is not finite.
        """
        keys = [mask.tobytes() for mask in masks]
        new = {key: mask for key, mask in zip(keys, masks, strict=True) if key not in self._known}
        if new:
            scored = self._score([self._tokens(mask) for mask in new.values()])
            if not np.isfinite(scored).all():
                raise UndefinedValueError("the likelihood of the answer is not a finite number")
            self._known.update(zip(new, scored.tolist(), strict=True))
        return np.array([self._known[key] for key in keys])

    def value(self, *, is_whole: bool) -> float:
        """The worth of all units together, or of none."""
        return float(self.values(np.full((1, self.num_units), is_whole))[0])

    def _tokens(self, mask: Masks) -> list[int]:
        kept = (self._owner < 0) | mask[self._owner]
        prompt = [token for token, is_kept in zip(self.row.ids, kept, strict=False) if is_kept]
        start = len(self._prefix) if self._cache is not None else 0
        return [*prompt[start:], *self.row.ids[self.row.num_prompt :]]

    def _score(self, rows: Sequence[Sequence[int]]) -> Values:
        # Of like length together, so that little of a batch is padding.
        scores = np.zeros(len(rows))
        order: list[int] = []
        num_done = 0
        for index in sorted(range(len(rows)), key=lambda at: len(rows[at])):
            # The cache is copied for each row of a batch.
            if order and (len(rows[index]) + self._num_cached) * (len(order) + 1) > BATCH_TOKENS:
                scores[order] = self._score_batch([rows[at] for at in order])
                num_done += len(order)
                self.on_scored(self.num_scored + num_done)
                order = []
            order.append(index)
        scores[order] = self._score_batch([rows[at] for at in order])
        return scores

    @property
    def _num_cached(self) -> int:
        return len(self._prefix) if self._cache is not None else 0

    def _score_batch(self, rows: Sequence[Sequence[int]]) -> Values:
        width, num_answer = max(map(len, rows)), len(self.row.ids) - self.row.num_prompt
        ids = torch.full((len(rows), width), self._pad_id)
        seen = torch.zeros((len(rows), self._num_cached + width), dtype=torch.long)
        seen[:, : self._num_cached] = 1
        positions = []
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
            seen[at, self._num_cached : self._num_cached + len(row)] = 1
            # The logits at a position are those of the next token.
            last = at * width + len(row) - 1
            positions += list(range(last - num_answer, last))
        labels = torch.tensor(self.row.ids[self.row.num_prompt :]).repeat(len(rows))
        with torch.inference_mode():
            losses = self._losses(ids, seen, torch.tensor(positions), labels)
        return -losses.reshape(len(rows), num_answer).double().mean(dim=1).cpu().numpy()

    def _losses(
        self, ids: torch.Tensor, seen: torch.Tensor, positions: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        device = self.model.device
        hidden = HiddenStates(
            self.model,
            positions=positions.to(device),
            input_ids=ids.to(device),
            attention_mask=seen.to(device),
            **self._cached(len(ids)),
        )
        losses = [
            F.cross_entropy(hidden.logits(states), wanted, reduction="none")
            for states, wanted in zip(
                hidden.states.split(256), labels.to(device).split(256), strict=True
            )
        ]
        return torch.cat(losses)

    def _cached(self, num_rows: int) -> dict[str, Any]:
        if self._cache is None:
            return {}
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(num_rows)
        return {"past_key_values": cache}

    def _read_prefix(self) -> DynamicCache | None:
        cache = DynamicCache(config=self.model.config)
        # A window or a state that runs along could not be gone on with from any token.
        if any(type(layer).__name__ != "DynamicLayer" for layer in cache.layers):
            return None
        ids = torch.tensor([self._prefix], device=self.model.device)
        with torch.inference_mode():
            self.model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
        return cache
