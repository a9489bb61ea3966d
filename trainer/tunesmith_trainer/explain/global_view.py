"""Which words and places move the model over many held-out rows, by occlusion."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from tunesmith_trainer.explain.game import Game
from tunesmith_trainer.explain.units import Unit

_EDGES: Final = re.compile(r"^\W+|\W+$")
# Of one row a word tells nothing of the others.
_FEWEST_ROWS: Final = 2
_MOST_WORDS: Final = 50


@dataclass(slots=True)
class GlobalView:
    """What each word, and each place of a turn, adds to the answer: nats per answer token."""

    num_rows: int = 0
    _words: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    _places: dict[str, dict[int, list[float]]] = field(default_factory=dict)

    def add(self, game: Game) -> None:
        """Leave out each unit of a row.

        Raises:
            UndefinedValueError: a likelihood is not finite.
        """
        masks = ~np.eye(game.num_units, dtype=np.bool_)
        effects = game.value(is_whole=True) - game.values(masks)
        for unit, place, effect in zip(game.units, _places(game.units), effects, strict=True):
            for word in words_of(unit.text):
                self._note(self._words, word, float(effect))
            self._note(self._places, place, float(effect))
        self.num_rows += 1

    def words(self) -> list[dict[str, Any]]:
        """Words of two rows or more, those that move most first."""
        listed = _listed(self._words, "word")
        common = [told for told in listed if told["rows"] >= _FEWEST_ROWS]
        return common[:_MOST_WORDS]

    def effects(self) -> dict[str, float]:
        """The mean effect of every word."""
        return {told["word"]: told["effect"] for told in _listed(self._words, "word")}

    def places(self) -> list[dict[str, Any]]:
        """Whose turn and which third of it, which is no text of any row."""
        return _listed(self._places, "place")

    def _note(self, noted: dict[str, dict[int, list[float]]], name: str, effect: float) -> None:
        noted.setdefault(name, defaultdict(list))[self.num_rows].append(effect)


def words_of(text: str) -> list[str]:
    """The different words of a text, without case and what stands around them."""
    return sorted({_EDGES.sub("", part).lower() for part in text.split()} - {""})


def _places(units: Sequence[Unit]) -> Iterable[str]:
    last: dict[int, int] = {}
    for unit in units:
        last[unit.turn] = max(last.get(unit.turn, 0), unit.place)
    final = max(last)
    thirds = ("beginning", "middle", "end")
    for unit in units:
        when = "last" if unit.turn == final else "earlier"
        third = thirds[min(2, 3 * (unit.place - 1) // max(1, last[unit.turn]))]
        yield f"{when} turn, {unit.role}, {third}"


def _listed(noted: Mapping[str, Mapping[int, list[float]]], name: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for key, by_row in noted.items():
        # One number a row: rows are what was drawn, not words.
        means = [float(np.mean(effects)) for effects in by_row.values()]
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
        error = None if spread is None else spread / len(means) ** 0.5
        told.append(
            {name: key, "rows": len(means), "effect": float(np.mean(means)), "standardError": error}
        )
    return sorted(told, key=lambda one: (-abs(one["effect"]), one[name]))
