"""One row explained by every method that is asked for, and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tunesmith_api.finetunejob.explain import Explain
from tunesmith_trainer.explain.attention import AttentionMaps, attention_of
from tunesmith_trainer.explain.attributions import Attribution, attribute
from tunesmith_trainer.explain.faithfulness import Faithfulness, RandomOrders, rank_stability
from tunesmith_trainer.explain.game import Game

_DIGITS: Final = 6
ROLLOUT: Final = "attentionRollout"


@dataclass(frozen=True, slots=True)
class JudgedAttribution:
    """An attribution and how far it is to be believed."""

    attribution: Attribution
    faithfulness: Faithfulness

    def as_json(self) -> dict[str, Any]:
        found = self.attribution
        return {
            "method": found.method,
            "estimator": found.estimator,
            "scores": _rounded(found.scores.tolist()),
            "passes": found.passes,
            "seconds": round(found.seconds, 3),
            "runs": len(found.runs),
            "stability": rank_stability(found.runs),
            **asdict(self.faithfulness),
        }


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """What was found of a row; `value` is the answer's, `nothing` without all units."""

    game: Game
    kind: str
    value: float
    nothing: float
    judged: Sequence[JudgedAttribution]
    attention: AttentionMaps | None
    rollout: Faithfulness | None

    def as_json(self) -> dict[str, Any]:
        """Everything, the words of the row as well."""
        game = self.game
        told = {
            "unitKind": self.kind,
            "units": [
                {"text": unit.text, "role": unit.role, "turn": unit.turn, "place": unit.place}
                for unit in game.units
            ],
            "answer": game.row.answer,
            "value": self.value,
            "withoutUnits": self.nothing,
            "tokens": len(game.row.ids),
            "passes": game.num_scored,
            "sharesPrefix": game.shares_prefix,
            "methods": [judged.as_json() for judged in self.judged],
        }
        if self.attention is None or self.rollout is None:
            return told
        importance = self.attention.importance
        return told | {
            "attention": {
                "rollout": _rounded(self.attention.rollout.tolist()),
                "headImportance": None if importance is None else importance.round(9).tolist(),
                **asdict(self.rollout),
            }
        }


def explain_row(
    game: Game,
    *,
    kind: str,
    settings: Explain,
    on_phase: Callable[[str], None] = lambda _name: None,
) -> ExplainedRow:
    """Attribute, judge, and look at attention; `on_phase` is told which of these comes next.

    Raises:
        UndefinedValueError: a likelihood or an attribution is not finite.
    """
    value, nothing = game.value(is_whole=True), game.value(is_whole=False)
    found = []
    for method in settings.methods:
        on_phase(method)
        found.append(attribute(game, method, settings))
    on_phase("comparing with random orders")
    random = RandomOrders(game, seed=settings.seed)
    maps = attention_of(game.model, game.row, game.units) if settings.attention else None
    return ExplainedRow(
        game=game,
        kind=kind,
        value=value,
        nothing=nothing,
        judged=[JudgedAttribution(one, random.judge(one.scores)) for one in found],
        attention=maps,
        rollout=random.judge(maps.rollout) if maps else None,
    )


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]
