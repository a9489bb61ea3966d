"""What the remedies against overfitting and forgetting came to in this run: the fact `remedies`.

Pure, from the spec and the history. Whoever adds a remedy adds its row to `REMEDIES`. A run by
itself shows an outcome, not what it would have been otherwise; every remedy that is on is told with
the outcome that it was on for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from pydantic import JsonValue

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_trainer.evaluate.bootstrap import bootstrap, bootstrap_gap, ratio
from tunesmith_trainer.train.history import GENERAL, HELD_OUT, KL, TRAIN_SAMPLE, History, RowNumbers

# NB: the defaults, not the manifest's: `evaluation.bootstrap` is none of train's inputs, or asking
# for another confidence would train the model again.
_BOOTSTRAP: Final = Bootstrap()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference of losses in nats per target, with its interval where there are rows for one."""

    value: float
    low: float | None = None
    high: float | None = None

    def as_fact(self) -> dict[str, JsonValue]:
        """As it stands in facts: `{"value", "low", "high"}`."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Remedy:
    """A remedy that is on.

    Attributes:
        remedy: the path of its field below `spec`.
        setting: its value, as text.
        effect: estimates by name: `gap`, `gapRise`, `generalLossRise` and what else is known.
        cost: numbers by name: `stepsSaved`, `secondsPerStep`, `tokens` and what else is known.
    """

    remedy: str
    setting: str
    effect: Mapping[str, Estimate]
    cost: Mapping[str, float] = field(default_factory=dict)

    def as_fact(self) -> dict[str, JsonValue]:
        """As it stands in the fact `remedies`."""
        return {
            "remedy": self.remedy,
            "setting": self.setting,
            "effect": {name: estimate.as_fact() for name, estimate in self.effect.items()},
            "cost": dict(self.cost),
        }


@dataclass(frozen=True, slots=True)
class RemedyKind:
    """A row of `REMEDIES`; `setting` is its value as text, None where it is off."""

    remedy: str
    setting: Callable[[FineTuneJobSpec], str | None]
    effect: tuple[str, ...] = ("gap", "gapRise")
    cost: Callable[[FineTuneJobSpec, History, int], Mapping[str, float]] = lambda *_: {}


def _number(read: Callable[[FineTuneJobSpec], float]) -> Callable[[FineTuneJobSpec], str | None]:
    """The setting of a remedy that 0 switches off."""
    return lambda spec: f"{read(spec):g}" if read(spec) else None


def _early_stopping(spec: FineTuneJobSpec) -> str | None:
    rule = spec.training.early_stopping
    return None if rule is None else f"patience {rule.patience}, minDelta {rule.min_delta:g}"


def _replay(spec: FineTuneJobSpec) -> str | None:
    replay = spec.dataset.replay
    if replay is None:
        return None
    return f"{replay.ratio:.0%} of {'given' if replay.source else 'self-synthesised'} rows"


def _replay_cost(spec: FineTuneJobSpec, history: History, _planned: int) -> Mapping[str, float]:
    ratio = spec.dataset.replay.ratio if spec.dataset.replay else 0.0
    return {"stepsOnReplay": round(ratio * history.step, 1)}


def _kl_to_base(spec: FineTuneJobSpec) -> str | None:
    penalty = spec.training.kl_to_base
    return None if penalty is None else f"weight {penalty.weight:g}"


# What remedies against forgetting are told with.
_FORGETTING: Final = ("generalLossRise", "heldOutLossRise", "kl")

REMEDIES: Final[tuple[RemedyKind, ...]] = (
    RemedyKind(
        "training.optimizer.weightDecay",
        _number(lambda spec: spec.training.optimizer.weight_decay),
    ),
    RemedyKind("training.lora.dropout", _number(lambda spec: spec.training.lora.dropout)),
    RemedyKind(
        "training.regularization.labelSmoothing",
        _number(lambda spec: spec.training.regularization.label_smoothing),
    ),
    RemedyKind(
        "training.regularization.neftuneNoiseAlpha",
        _number(lambda spec: spec.training.regularization.neftune_noise_alpha),
    ),
    RemedyKind(
        "training.regularization.attentionDropout",
        _number(lambda spec: spec.training.regularization.attention_dropout),
    ),
    RemedyKind(
        "training.regularization.embeddingDropout",
        _number(lambda spec: spec.training.regularization.embedding_dropout),
    ),
    RemedyKind(
        "training.earlyStopping",
        _early_stopping,
        cost=lambda _spec, history, planned_steps: {"stepsSaved": planned_steps - history.step},
    ),
    RemedyKind("dataset.replay", _replay, effect=_FORGETTING, cost=_replay_cost),
    RemedyKind(
        "training.klToBase",
        _kl_to_base,
        effect=_FORGETTING,
        cost=lambda *_: {"forwardPassesPerStep": 1},
    ),
)


def remedies(spec: FineTuneJobSpec, history: History, *, planned_steps: int) -> list[Remedy]:
    """Every remedy that is on, with the outcome of the run and what it cost."""
    known = outcome(history)
    return [
        Remedy(
            remedy=kind.remedy,
            setting=setting,
            effect={name: known[name] for name in kind.effect if name in known},
            cost=kind.cost(spec, history, planned_steps),
        )
        for kind in REMEDIES
        if (setting := kind.setting(spec)) is not None
    ]


def outcome(history: History) -> dict[str, Estimate]:
    """How far the run has overfitted and forgotten at its best step; with intervals over rows.

    `gap` is the held-out loss less that of the sample of training rows, `baseGap` that of the base
    model, which says how much harder the held-out rows are to begin with, and `gapRise` what
    training added; `heldOutLossRise` and `generalLossRise` are losses less those of the base.
    """
    base, best = history.base_sums, history.best_sums
    rises = {kind: _rise(base[kind], best[kind]) for kind in best}
    estimates = {
        "gap": _gap(best, history.units),
        "baseGap": _gap(base, history.units),
        "gapRise": _gap(rises, history.units),
        "heldOutLossRise": _mean(rises[HELD_OUT], history.units[HELD_OUT]),
    }
    if GENERAL in rises:
        estimates["generalLossRise"] = _mean(rises[GENERAL], history.units[GENERAL])
    if KL in best:
        estimates["kl"] = _mean(best[KL], history.units[KL])
    return estimates


def _rise(base: list[float], best: list[float]) -> list[float]:
    # Row by row, so that its interval is that of a paired difference.
    return [after - before for before, after in zip(base, best, strict=True)]


def _mean(sums: list[float], units: list[float]) -> Estimate:
    rows, weights = np.array(sums), np.array(units)
    interval = bootstrap(
        rows, weights, resamples=_BOOTSTRAP.resamples, confidence=_BOOTSTRAP.confidence
    )
    value = ratio(rows, weights)
    return Estimate(value, interval.low, interval.high) if interval else Estimate(value)


def _gap(sums: RowNumbers, units: RowNumbers) -> Estimate:
    held_out, trained = (
        (np.array(sums[kind]), np.array(units[kind])) for kind in (HELD_OUT, TRAIN_SAMPLE)
    )
    interval = bootstrap_gap(
        held_out, trained, resamples=_BOOTSTRAP.resamples, confidence=_BOOTSTRAP.confidence
    )
    value = ratio(*held_out) - ratio(*trained)
    return Estimate(value, interval.low, interval.high) if interval else Estimate(value)
