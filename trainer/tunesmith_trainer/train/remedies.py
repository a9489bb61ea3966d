"""What the remedies against overfitting and forgetting came to in this run: the fact `remedies`.

Pure, from the spec and the history. Whoever adds a remedy adds its row to `REMEDIES`. A run by
itself shows an outcome, not what it would have been otherwise: every remedy that is on is told with
the outcome of the run. What they changed, a control run shows (`training.control`), of all that are
on together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from pydantic import BaseModel, JsonValue
from pydantic.alias_generators import to_snake

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.finetunejob.freeze import Freeze
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Optimizer
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.evaluate.bootstrap import bootstrap, bootstrap_gap, ratio
from tunesmith_trainer.train.history import (
    ATTACKED,
    GENERAL,
    HELD_OUT,
    KL,
    OFF_HIGHLIGHTS,
    PAIRED_GAP,
    RATIONALE,
    TRAIN_SAMPLE,
    History,
    RowNumbers,
)

# NB: the defaults, not the manifest's: `evaluation.bootstrap` is none of train's inputs, or asking
# for another confidence would train the model again.
_BOOTSTRAP: Final = Bootstrap()

Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference of losses in nats per target, with its interval where there are rows for one."""

    value: float
    low: float | None = None
    high: float | None = None

    def as_fact(self) -> dict[str, JsonValue]:
        """As it stands in facts: `{"value", "low", "high"}`."""
        return {"value": self.value, "low": self.low, "high": self.high}

    @property
    def in_words(self) -> str:
        """The value with its sign, and its interval."""
        if self.low is None or self.high is None:
            return f"{self.value:+.3f}"
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


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
    """A row of `REMEDIES`.

    `off` is the value of the field that switches it off, `default` that of a job that does not
    mention it, where it is another. A control run is trained without it,
    unless it changes no step (`is_controlled`).
    """

    remedy: str
    off: object = 0.0
    default: object = None
    effect: tuple[str, ...] = ("gap", "gapRise")
    cost: Callable[[FineTuneJobSpec, History, int], Mapping[str, float]] = lambda *_: {}
    is_controlled: bool = True

    def is_on(self, spec: FineTuneJobSpec) -> bool:
        """Whether the job has it."""
        return self.value(spec) != self.off

    def is_asked_for(self, spec: FineTuneJobSpec) -> bool:
        """Whether it is on since the manifest says so."""
        return self.is_on(spec) and self.value(spec) != self.default

    def value(self, spec: FineTuneJobSpec) -> Any:
        """The value of its field."""
        value: Any = spec
        for name in self._names:
            value = getattr(value, name)
        return value

    def setting(self, spec: FineTuneJobSpec) -> str:
        """Its value as text."""
        value = self.value(spec)
        if not isinstance(value, BaseModel):
            return str(value)
        fields = value.model_dump(mode="json", by_alias=True, exclude_none=True)
        # Of a record below it, a source say, there is more than a table can show.
        numbers = {name: given for name, given in fields.items() if not isinstance(given, dict)}
        return ", ".join(f"{name} {given}" for name, given in numbers.items())

    def without(self, spec: FineTuneJobSpec) -> FineTuneJobSpec:
        """`spec` with it switched off."""
        return _replaced(spec, self._names, self.off)

    @property
    def _names(self) -> list[str]:
        return [to_snake(name) for name in self.remedy.split(".")]


def _replay_cost(spec: FineTuneJobSpec, history: History, _planned: int) -> Mapping[str, float]:
    ratio = spec.dataset.replay.ratio if spec.dataset.replay else 0.0
    return {"stepsOnReplay": round(ratio * history.step, 1)}


def _ascent_cost(spec: FineTuneJobSpec, _history: History, _planned: int) -> Mapping[str, float]:
    adversarial = spec.training.adversarial
    return {"passesPerStep": adversarial.num_passes} if adversarial else {}


def _paired_cost(spec: FineTuneJobSpec, _history: History, _planned: int) -> Mapping[str, float]:
    return {"rowsPerRow": 2} if spec.training.has_pairs else {}


def _explained_cost(spec: FineTuneJobSpec, history: History, planned: int) -> Mapping[str, float]:
    # Of a row with highlights: a pass forward and back, and back through both.
    passes = {"passesPerHighlightedRow": 3}
    return passes if spec.holds_to_highlights else _paired_cost(spec, history, planned)


# What is told of each measure; of a measure that no field asks for, nothing.
_MEASURED: Final[Mapping[str, str]] = {
    HELD_OUT: "heldOutLoss",
    GENERAL: "generalLoss",
    ATTACKED: "attackedLoss",
    PAIRED_GAP: "pairedGap",
    RATIONALE: "rationaleLoss",
    OFF_HIGHLIGHTS: "offHighlights",
}
# What remedies against forgetting are told with.
_FORGETTING: Final = ("generalLossRise", "heldOutLossRise", "kl")
# What a remedy is there to keep down, if it is told with it.
_KEPT_DOWN: Final[Mapping[str, str]] = {
    "gapRise": "the gap between held-out and training loss",
    "generalLossRise": "the loss on general text",
}
_DIFFERENCES: Final[Mapping[str, str]] = {
    "gap": "the gap",
    "heldOutLoss": "the held-out loss",
    "generalLoss": "the loss on general text",
    "attackedLoss": "the held-out loss under attack",
    "pairedGap": "the gap between groups",
    "rationaleLoss": "the loss of held-out rationales",
    "offHighlights": "the share of occlusion off the highlights (no nats)",
}

REMEDIES: Final[tuple[RemedyKind, ...]] = (
    RemedyKind("training.optimizer.weightDecay", default=Optimizer().weight_decay),
    RemedyKind("training.lora.dropout"),
    RemedyKind("training.regularization.labelSmoothing"),
    RemedyKind("training.regularization.neftuneNoiseAlpha"),
    RemedyKind("training.regularization.attentionDropout"),
    RemedyKind("training.regularization.embeddingDropout"),
    RemedyKind(
        "training.earlyStopping",
        off=None,
        cost=lambda _spec, history, planned_steps: {"stepsSaved": planned_steps - history.step},
        is_controlled=False,
    ),
    RemedyKind("dataset.replay", off=None, effect=_FORGETTING, cost=_replay_cost),
    RemedyKind(
        "training.klToBase",
        off=None,
        effect=_FORGETTING,
        cost=lambda *_: {"forwardPassesPerStep": 1},
    ),
    RemedyKind(
        "training.adversarial",
        off=None,
        effect=("attackedLossRise", "heldOutLossRise", "generalLossRise"),
        cost=_ascent_cost,
    ),
    RemedyKind(
        "training.fairness",
        off=None,
        effect=("pairedGapRise", "heldOutLossRise", "generalLossRise"),
        cost=_paired_cost,
    ),
    RemedyKind(
        "training.explanation",
        off=None,
        effect=("rationaleLossRise", "offHighlightsRise", "heldOutLossRise", "generalLossRise"),
        cost=_explained_cost,
    ),
    RemedyKind("training.optimizer.layerDecay", off=1.0, effect=_FORGETTING),
    # NB: with fewer adapters the others start from other numbers than in the control run.
    RemedyKind("training.freeze", off=Freeze(), effect=_FORGETTING),
)


def controlled(spec: FineTuneJobSpec) -> list[RemedyKind]:
    """The remedies that are on in this job and off in its control."""
    return [kind for kind in REMEDIES if kind.is_controlled and kind.is_on(spec)]


def without_remedies(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """The spec of the control run: trained to its end, without the remedies.

    Raises:
        BadInputError: there is none to go without.
    """
    kinds = controlled(spec)
    if not kinds:
        known = ", ".join(kind.remedy for kind in REMEDIES if kind.is_controlled)
        raise BadInputError(
            Reason.INVALID_SPEC,
            "training.control: no remedy is on that a control run could go without; leave it out, "
            f"or set one of {known}",
        )
    for kind in kinds:
        spec = kind.without(spec)
    # Neither a rule nor a budget ends it: both runs are compared after the same steps.
    spec = _replaced(spec, ["training", "forgetting_budget"], None)
    return _replaced(spec, ["training", "early_stopping"], None)


def remedies(spec: FineTuneJobSpec, history: History, *, planned_steps: int) -> list[Remedy]:
    """Every remedy that is on, with the outcome of the run and what it cost."""
    known = outcome(history)
    return [
        Remedy(
            remedy=kind.remedy,
            setting=kind.setting(spec),
            effect={name: known[name] for name in kind.effect if name in known},
            cost=kind.cost(spec, history, planned_steps),
        )
        for kind in REMEDIES
        if kind.is_on(spec)
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
        **{f"{name}Rise": rise for name, rise in _means(rises, history.units).items()},
    }
    if KL in best:
        estimates["kl"] = _mean(best[KL], history.units[KL])
    return estimates


@dataclass(frozen=True, slots=True)
class Control:
    """What the remedies changed, beside the same steps without them.

    Attributes:
        steps: how many steps both were trained.
        without: the remedies that were left out, by the path of their field.
        differences: `gap`, `heldOutLoss`, `generalLoss` and, where one is trained on, the
            `attackedLoss`, the `pairedGap` or what is `offHighlights` with the remedies less those
            without; below 0 is a gain.
        seconds_per_step: what a step took longer with them; medians.
        seconds: what the control run took to train.
    """

    steps: int
    without: Sequence[str]
    differences: Mapping[str, Estimate]
    seconds_per_step: float
    seconds: float

    def as_fact(self) -> dict[str, JsonValue]:
        """As it stands in the fact `control`."""
        return {
            "steps": self.steps,
            "without": list(self.without),
            "differences": {
                name: estimate.as_fact() for name, estimate in self.differences.items()
            },
            "secondsPerStep": self.seconds_per_step,
            "seconds": self.seconds,
        }

    @property
    def shows_gain(self) -> bool:
        """Whether one of the differences is below 0, beyond chance."""
        return any(
            estimate.high is not None and estimate.high < 0
            for estimate in self.differences.values()
        )

    @property
    def in_words(self) -> str:
        """The numbers that it is judged by, with their intervals."""
        apart = ", ".join(
            f"{words} {self.differences[name].in_words}"
            for name, words in _DIFFERENCES.items()
            if name in self.differences
        )
        return (
            f"after {self.steps} steps they changed, in nats, beside a run without "
            f"{', '.join(self.without)}: {apart}"
        )


def compare(spec: FineTuneJobSpec, history: History, control: History) -> Control:
    """What the remedies of `spec` changed, by the rows of both runs after the control's last step.

    Paired by row: both runs read the same rows in the same order, from the same first weights.
    """
    ours, theirs = history.compared_sums, control.best_sums
    # The divergence from the base is not measured where nothing asks for it.
    rows = {kind: _rise(theirs[kind], ours[kind]) for kind in ours if kind in theirs}
    differences = {"gap": _gap(rows, history.units), **_means(rows, history.units)}
    steps = control.step
    return Control(
        steps=steps,
        without=[kind.remedy for kind in controlled(spec)],
        differences=differences,
        seconds_per_step=history.median_seconds(steps) - control.median_seconds(steps),
        seconds=control.seconds,
    )


def _replaced(record: Record, names: Sequence[str], value: object) -> Record:
    name, *rest = names
    return record.model_copy(
        update={name: _replaced(getattr(record, name), rest, value) if rest else value}
    )


def _rise(base: list[float], best: list[float]) -> list[float]:
    # Row by row, so that its interval is that of a paired difference.
    return [after - before for before, after in zip(base, best, strict=True)]


def _means(sums: RowNumbers, units: RowNumbers) -> dict[str, Estimate]:
    return {
        name: _mean(sums[kind], units[kind]) for kind, name in _MEASURED.items() if kind in sums
    }


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


def warnings_of(
    spec: FineTuneJobSpec, history: History, *, control: Control | None, planned_steps: int
) -> list[str]:
    """Which of the remedies show no gain, as sentences."""
    warnings = []
    if control is not None:
        if not control.shows_gain:
            warnings.append(f"the remedies show no gain: {control.in_words}")
    else:
        known = outcome(history)
        for name, what in _KEPT_DOWN.items():
            on = [
                kind.remedy
                for kind in controlled(spec)
                if kind.is_asked_for(spec) and name in kind.effect
            ]
            rise = known.get(name)
            if on and rise and rise.low is not None and rise.low > 0:
                warnings.append(
                    f"training has raised {what} by {rise.in_words} nats in spite of "
                    f"{', '.join(on)}; training.control measures what they change"
                )
    if spec.training.early_stopping is not None and history.step >= planned_steps:
        warnings.append(
            "training.earlyStopping has saved no step: the held-out loss went on falling"
        )
    return warnings
