"""`spec.evaluation`: what is measured of base and tuned model, and the bounds that must hold."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater, PlannedDefault
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.preference import PREFERENCE_METRICS
from tunesmith_api.rules import Rule

# Measured of every suite, without generating an answer.
LOSS_METRICS: Final = ("loss", "perplexity")


class Generation(ApiModel):
    """The metric over generated answers."""

    metric: Literal["auto", "exactMatch", "rougeL", "chrf", "none"] = Field(
        "auto",
        description="auto: exactMatch for answers of one or two words, else rougeL; chrf "
        "without word spaces.",
    )
    # Answers are generated token by token: a sample of the rows, and short ones.
    max_samples: Annotated[int, Field(ge=1, le=10_000)] = 32
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 64


class Bootstrap(ApiModel):
    """Percentile bootstrap over rows (Efron 1979)."""

    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class Gate(ApiModel):
    """A bound the tuned model must keep; exactly one of the four bounds is given."""

    suite: Literal["heldOut", "general", "preference"] = "heldOut"
    metric: Literal[
        "loss",
        "perplexity",
        "exactMatch",
        "rougeL",
        "chrf",
        "margin",
        "accuracy",
        "rankingAccuracy",
    ] = "loss"
    # Bounds on the base's difference need no knowledge of what a good number is for this data.
    min: float | None = Field(None, description="The value must be at least this.")
    max: float | None = Field(None, description="The value must be at most this.")
    min_delta: float | None = Field(
        None, description="Value minus the base's must be at least this."
    )
    max_delta: float | None = Field(
        None, description="Value minus the base's must be at most this."
    )


# DPO may make the chosen answers less likely, as long as the rejected ones become more so: their
# loss says little, and what was asked for is the margin.
DEFAULT_GATES: Final[Mapping[str, Gate]] = {
    "sft": Gate(suite="heldOut", metric="loss", max_delta=0.0),
    "dpo": Gate(suite="preference", metric="margin", min_delta=0.0),
}


class Interpolation(ApiModel):
    """A sweep of the weights between base and tuned (WiSE-FT, arXiv 2109.01903); a report only."""

    points: Annotated[int, Field(ge=1, le=50)] = Field(
        5, description="How many weights are scored between the two models."
    )


class Evaluation(ApiModel):
    """Base against tuned: on the held-out rows, and on general text so that forgetting shows."""

    generation: Generation = Generation()
    general_text: Annotated[
        DataSource | None,
        DecidedLater("a text that ships with Tunesmith"),
    ] = Field(
        None,
        description="Plain text for the general suite. Default: a text that ships with Tunesmith.",
    )
    bootstrap: Bootstrap = Bootstrap()
    gates: Annotated[Annotated[list[Gate], Field(max_length=32)] | None, PlannedDefault()] = Field(
        None,
        description="Bounds that must hold. Default: the held-out loss is no worse than the "
        "base's; for dpo, the margin between chosen and rejected answers is no smaller.",
    )
    interpolation: Annotated[Interpolation | None, DecidedLater("no sweep")] = Field(
        None,
        description="Score weights between base and tuned model, and report where most of the task "
        "is kept for the least forgetting. Default: no sweep.",
    )

    def with_defaults(self, *, objective: str) -> Self:
        """With the gate of the objective, where none is given and none is declined."""
        if self.gates is not None:
            return self
        return self.model_copy(update={"gates": [DEFAULT_GATES[objective]]})


_GATE_RULES: Final[tuple[Rule[Gate], ...]] = (
    Rule(
        name="one-bound-per-gate",
        scopes=("evaluation.gates.*",),
        field="",
        holds=lambda gate: (
            sum(bound is not None for bound in (gate.min, gate.max, gate.min_delta, gate.max_delta))
            == 1
        ),
        cel="[has(self.min), has(self.max), has(self.minDelta), has(self.maxDelta)]"
        ".filter(given, given).size() == 1",
        message="a gate has exactly one bound; give one of min, max, minDelta, maxDelta",
    ),
    Rule(
        name="general-suite-has-loss",
        scopes=("evaluation.gates.*",),
        field="metric",
        holds=lambda gate: gate.suite != "general" or gate.metric in LOSS_METRICS,
        cel="self.suite != 'general' || self.metric in ['loss', 'perplexity']",
        message="the general suite measures loss and perplexity only; choose one, or suite heldOut",
    ),
    Rule(
        name="preference-suite-and-metrics",
        scopes=("evaluation.gates.*",),
        field="metric",
        holds=lambda gate: (gate.suite == "preference") == (gate.metric in PREFERENCE_METRICS),
        cel="(self.suite == 'preference') == "
        "(self.metric in ['margin', 'accuracy', 'rankingAccuracy'])",
        message="margin, accuracy and rankingAccuracy are measured of the suite preference, and "
        "nothing else is; choose one of them and suite: preference, or neither",
    ),
)

_MEASURED_RULES: Final[tuple[Rule[Evaluation], ...]] = (
    Rule(
        name="gate-metric-is-measured",
        scopes=("evaluation",),
        field="gates",
        # Which metric `auto` is, only the data tells; the evaluate stage refuses what then lacks.
        holds=lambda evaluation: (
            evaluation.generation.metric == "auto"
            or all(
                gate.metric in {*LOSS_METRICS, *PREFERENCE_METRICS, evaluation.generation.metric}
                for gate in evaluation.gates or ()
            )
        ),
        cel="self.generation.metric == 'auto' || !has(self.gates) || self.gates.all(gate, "
        "gate.metric in ['loss', 'perplexity', 'margin', 'accuracy', 'rankingAccuracy'] || "
        "gate.metric == self.generation.metric)",
        message="a gate asks for a metric that is not measured; name it in generation.metric",
    ),
)

RULES: Final[tuple[Rule[Any], ...]] = (*_GATE_RULES, *_MEASURED_RULES)
