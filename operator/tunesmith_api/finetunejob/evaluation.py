"""`spec.evaluation`: what is measured of base and tuned model, and the bounds that must hold."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater, PlannedDefault
from tunesmith_api.finetunejob import explain as of_explain
from tunesmith_api.finetunejob import fairness as of_fairness
from tunesmith_api.finetunejob import robustness as of_robustness
from tunesmith_api.finetunejob import suites as of_suites
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.explain import Explain
from tunesmith_api.finetunejob.explanation_objective import HIGHLIGHT_SHARE, HIGHLIGHTS
from tunesmith_api.finetunejob.fairness import FAIRNESS_METRICS, Fairness, FairnessSuite
from tunesmith_api.finetunejob.judge import Judge, ReferenceModel
from tunesmith_api.finetunejob.preference import PREFERENCE_METRICS
from tunesmith_api.finetunejob.robustness import (
    INJECTIONS,
    LOSS_MEASURES,
    OBEYED,
    ROBUSTNESS,
    SCORE_MEASURES,
    Robustness,
)
from tunesmith_api.finetunejob.suites import MetricName, Suite, SuiteName
from tunesmith_api.rules import Rule

# Measured of the rows held out and of the general text, without generating an answer.
LOSS_METRICS: Final = ("loss", "perplexity")
ANSWER_METRICS: Final = ("exactMatch", "rougeL", "chrf")
WIN_RATE: Final = "winRate"


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

    suite: SuiteName = Field(
        "heldOut",
        description="heldOut, general, preference, judge, robustness, highlights, or the name of "
        "one of the suites, those of fairness included. Of robustness, highlights and a fairness "
        "suite the compressed model is held to it, too.",
    )
    metric: MetricName = Field(
        "loss",
        description="loss, perplexity, exactMatch, rougeL or chrf; of preferences margin, "
        "accuracy or rankingAccuracy; of the judge winRate; of a suite what its task measures, "
        "such as acc; of a fairness suite gap, or another that its kind has; of highlights "
        "highlightShare; of robustness an attack's name and what is measured of it, such as "
        "typos.lossRise.",
    )
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
    suites: Annotated[list[Suite], Field(max_length=16)] = Field(
        default_factory=list,
        description="Tasks of lm-evaluation-harness. They need the extra `eval`.",
    )
    fairness: Annotated[Fairness | None, DecidedLater("no fairness suite")] = Field(
        None, description="How the models treat groups of people. Default: not measured."
    )
    robustness: Annotated[Robustness | None, DecidedLater("no prompt is attacked")] = Field(
        None,
        description="What changed prompts do to the answers; `robustness: {}` has every default. "
        "Default: not measured.",
    )
    judge: Annotated[Judge | None, DecidedLater("no judge")] = Field(
        None, description="A model that compares the tuned model's answers with the base's."
    )
    reference: Annotated[ReferenceModel | None, DecidedLater("no reference")] = Field(
        None,
        description="A managed model that answers the same prompts; its score and its price stand "
        "beside those of the tuned model.",
    )
    bootstrap: Bootstrap = Bootstrap()
    explain: Annotated[Explain | None, DecidedLater("no explanations")] = Field(
        None,
        description="Explain answers of the tuned model, the failures first; `explain: {}` has "
        "every default. Default: none.",
    )
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
        holds=lambda gate: gate.suite != "preference" or gate.metric in PREFERENCE_METRICS,
        cel="self.suite != 'preference' || "
        "self.metric in ['margin', 'accuracy', 'rankingAccuracy']",
        message="the suite preference measures margin, accuracy and rankingAccuracy only; choose "
        "one of them, or another suite",
    ),
    Rule(
        name="highlights-have-a-share",
        scopes=("evaluation.gates.*",),
        field="metric",
        holds=lambda gate: gate.suite != HIGHLIGHTS or gate.metric == HIGHLIGHT_SHARE,
        cel=f"self.suite != '{HIGHLIGHTS}' || self.metric == '{HIGHLIGHT_SHARE}'",
        message="of highlights highlightShare is measured only; choose it, or another suite",
    ),
    Rule(
        name="judge-has-win-rate",
        scopes=("evaluation.gates.*",),
        field="metric",
        holds=lambda gate: gate.suite != "judge" or gate.metric == WIN_RATE,
        cel="self.suite != 'judge' || self.metric == 'winRate'",
        message="the judge measures winRate only; choose it, or another suite",
    ),
)


def _dotted(measures: Sequence[str]) -> str:
    """In CEL, where `attack` is an attack's name."""
    return ", ".join(f"attack + '.{measure}'" for measure in measures)


_MEASURED_RULES: Final[tuple[Rule[Evaluation], ...]] = (
    Rule(
        name="suite-names-differ",
        scopes=("evaluation",),
        field="suites",
        holds=lambda evaluation: (
            len({suite.name for suite in evaluation.suites}) == len(evaluation.suites)
        ),
        cel="self.suites.all(one, self.suites.exists_one(other, other.name == one.name))",
        message="two suites have the same name; give every suite its own",
    ),
    Rule(
        name="gate-suite-is-measured",
        scopes=("evaluation",),
        field="gates",
        holds=lambda evaluation: (
            {gate.suite for gate in evaluation.gates or ()} <= _suites(evaluation)
        ),
        cel="!has(self.gates) || self.gates.all(gate, "
        "gate.suite in ['heldOut', 'general', 'preference', 'highlights'] "
        "|| (gate.suite == 'judge' && has(self.judge)) "
        "|| (gate.suite == 'robustness' && has(self.robustness)) "
        "|| (has(self.fairness) && self.fairness.suites.exists(suite, suite.name == gate.suite)) "
        "|| self.suites.exists(suite, suite.name == gate.suite))",
        message="a gate asks for a suite that is not measured; name heldOut, general, one of the "
        "suites, judge where there is a judge, robustness where prompts are attacked, or "
        "highlights where a column of the data has them",
    ),
    Rule(
        name="gate-metric-is-measured",
        scopes=("evaluation",),
        field="gates",
        # Which metric `auto` is, only the data tells; the evaluate stage refuses what then lacks.
        holds=lambda evaluation: all(
            gate.metric in LOSS_METRICS
            or (
                gate.metric in ANSWER_METRICS
                and evaluation.generation.metric in {"auto", gate.metric}
            )
            for gate in evaluation.gates or ()
            if gate.suite == "heldOut"
        ),
        cel="!has(self.gates) || self.gates.all(gate, gate.suite != 'heldOut' "
        "|| gate.metric in ['loss', 'perplexity'] "
        "|| (gate.metric in ['exactMatch', 'rougeL', 'chrf'] "
        "&& self.generation.metric in ['auto', gate.metric]))",
        message="a gate asks for a metric that is not measured; name it in generation.metric",
    ),
    Rule(
        name="gate-metric-is-that-of-its-suite",
        scopes=("evaluation",),
        field="gates",
        holds=lambda evaluation: all(
            gate.metric == suite.metric
            for gate in evaluation.gates or ()
            for suite in evaluation.suites
            if suite.name == gate.suite and suite.metric is not None
        ),
        cel="!has(self.gates) || self.gates.all(gate, "
        "self.suites.all(suite, suite.name != gate.suite || !has(suite.metric) || "
        "suite.metric == gate.metric))",
        message="a gate asks for another metric than its suite counts; change one of the two",
    ),
    Rule(
        name="gate-metric-is-of-the-fairness-kind",
        scopes=("evaluation",),
        field="gates",
        holds=lambda evaluation: all(
            gate.metric in FAIRNESS_METRICS[suite.kind]
            for gate in evaluation.gates or ()
            for suite in _fairness(evaluation)
            if suite.name == gate.suite
        ),
        cel="!has(self.gates) || !has(self.fairness) || self.gates.all(gate, "
        "self.fairness.suites.all(suite, suite.name != gate.suite || "
        + " || ".join(
            f"(suite.kind == '{kind}' && gate.metric in {[*metrics]})"
            for kind, metrics in FAIRNESS_METRICS.items()
        )
        + "))",
        message="a gate asks for a metric that its fairness suite does not measure; name gap, or "
        "another of its kind",
    ),
    Rule(
        name="gate-metric-is-of-an-attack",
        scopes=("evaluation",),
        field="gates",
        holds=lambda evaluation: all(
            gate.metric
            in evaluation.robustness.metrics(has_answers=evaluation.generation.metric != "none")
            for gate in evaluation.gates or ()
            if gate.suite == ROBUSTNESS and evaluation.robustness is not None
        ),
        cel="!has(self.gates) || !has(self.robustness) || self.gates.all(gate, "
        "gate.suite != 'robustness' || self.robustness.attacks.exists(attack, "
        f"gate.metric in [{_dotted(LOSS_MEASURES)}] || (self.generation.metric != 'none' && "
        f"(gate.metric in [{_dotted(SCORE_MEASURES)}] || "
        f"(attack in {[*INJECTIONS]} && gate.metric == attack + '.{OBEYED}')))))",
        message="a gate asks for what is not measured of an attack; name one of "
        "robustness.attacks, a dot, and loss, lossRise, score, scoreDrop or, of an injection, "
        "obeyedShare",
    ),
    Rule(
        name="fairness-names-are-no-suites",
        scopes=("evaluation",),
        field="fairness.suites",
        holds=lambda evaluation: (
            not {suite.name for suite in _fairness(evaluation)}
            & {suite.name for suite in evaluation.suites}
        ),
        cel="!has(self.fairness) || !has(self.suites) || self.fairness.suites.all(one, "
        "!self.suites.exists(other, other.name == one.name))",
        message="a fairness suite has the name of one of the suites; choose another",
    ),
    Rule(
        name="answers-for-other-models",
        scopes=("evaluation",),
        field="generation.metric",
        holds=lambda evaluation: (
            evaluation.generation.metric != "none"
            or (evaluation.judge is None and evaluation.reference is None)
        ),
        cel="self.generation.metric != 'none' || !(has(self.judge) || has(self.reference))",
        message="judge and reference need answers; choose a metric for them",
    ),
)

RULES: Final[tuple[Rule[Any], ...]] = (
    *_GATE_RULES,
    *of_suites.RULES,
    *of_explain.RULES,
    *of_fairness.RULES,
    *of_robustness.RULES,
    *_MEASURED_RULES,
)


def _fairness(evaluation: Evaluation) -> list[FairnessSuite]:
    return evaluation.fairness.suites if evaluation.fairness else []


def _suites(evaluation: Evaluation) -> set[str]:
    judged = {"judge"} if evaluation.judge else set()
    attacked = {ROBUSTNESS} if evaluation.robustness else set()
    # Whether there are preferences or highlights, only other parts say: rules of the whole spec.
    return {
        "heldOut",
        "general",
        "preference",
        HIGHLIGHTS,
        *judged,
        *attacked,
        *(suite.name for suite in evaluation.suites),
        *(suite.name for suite in _fairness(evaluation)),
    }
