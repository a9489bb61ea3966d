"""`spec.search`: settings of training that are tried before the model is trained with the best.

What the values of a space mean is checked where the space is read
(`tunesmith_engine/stages/search_space.py`): each is tried in the models of `spec.training`.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import Positive, Seed, ShortText
from tunesmith_api.rules import Rule

# What training itself reads, and nothing else does. Not: what decides which rows there are
# (sequenceLength, objective), what other stages read (method), what changes the loss that trials
# are compared by (dpo), and what changes no result.
SearchableField = Literal[
    "training.epochs",
    "training.maxSteps",
    "training.seed",
    "training.batch.size",
    "training.lora.rank",
    "training.lora.alpha",
    "training.lora.dropout",
    "training.lora.useRslora",
    "training.lora.loraplusLrRatio",
    "training.optimizer.type",
    "training.optimizer.learningRate",
    "training.optimizer.weightDecay",
    "training.optimizer.beta1",
    "training.optimizer.beta2",
    "training.optimizer.maxGradNorm",
    "training.optimizer.layerDecay",
    "training.schedule.type",
    "training.schedule.warmupRatio",
    "training.schedule.minLearningRateRatio",
    "training.schedule.decayRatio",
    "training.schedule.decayType",
    "training.schedule.cycles",
    "training.freeze.layers",
    "training.freeze.embeddings",
    "training.regularization.labelSmoothing",
    "training.regularization.neftuneNoiseAlpha",
    "training.regularization.attentionDropout",
    "training.regularization.embeddingDropout",
    "training.klToBase.weight",
    "training.adversarial.epsilon",
]

# What a trial measures; all but the speed are better the lower they are.
ObjectiveName = Literal["heldOutLoss", "generalLoss", "trainableParameters", "tokensPerSecond"]
MAXIMIZED: Final[tuple[ObjectiveName, ...]] = ("tokensPerSecond",)

Number = Annotated[float, Field(ge=-1e12, le=1e12)]


class Condition(ApiModel):
    """When a parameter is searched at all; otherwise the field stays as the job has it."""

    field: SearchableField = Field(description="Another parameter, which has no condition itself.")
    is_in: Annotated[list[ShortText], Field(min_length=1, max_length=32)] = Field(
        description='Values of it, as text: wsd, "16" or "true".'
    )


class Parameter(ApiModel):
    """A field under training, and the values that are tried: a range, numbers or words."""

    field: SearchableField
    minimum: Number | None = Field(None, description="The least value of a range.")
    maximum: Number | None = Field(None, description="The greatest value of a range.")
    log: bool = Field(False, description="Draw from the range by orders of magnitude.")
    step: Annotated[float, Field(gt=0.0, le=1e12)] | None = Field(
        None, description="Values of the range lie so far apart, from its least one on."
    )
    values: Annotated[list[Number], Field(max_length=64)] = Field(
        default_factory=list, description="Numbers to choose from."
    )
    choices: Annotated[list[ShortText], Field(max_length=64)] = Field(
        default_factory=list, description='Words to choose from; "true" and "false" for a switch.'
    )
    when: Annotated[Condition | None, DecidedLater("always searched")] = Field(
        None, description="Search it only beside certain values of another one. Default: always."
    )


class Objective(ApiModel):
    """What is to be good; of several, the first matters most."""

    metric: ObjectiveName = Field(
        description="heldOutLoss: the lowest loss of the rows that choose, in nats a target. "
        "generalLoss: of the general text at that step, which tells of forgetting. "
        "trainableParameters: the size of what is trained. tokensPerSecond: the speed of training."
    )
    tolerance: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.01,
        description="Part of the best value by which a trial may be worse and count as good as "
        "the best; the next objective then decides (lexicographic, Zhang et al. 2023, FLAML's "
        "LexiFlow). The last objective has no use for it.",
    )


class Pruner(ApiModel):
    """Ends trials that are worse than others were after as many tokens."""

    type: Literal["median", "asha"] = Field(
        description="asha: at each rung the best 1 / reductionFactor of the trials goes on (Li et "
        "al. 2018, arXiv 1810.05934). median: who is worse than the median of the others at the "
        "same point ends (Golovin et al. 2017, Google Vizier)."
    )
    min_tokens: Annotated[Positive | None, DecidedLater("a ninth of a trial's tokens")] = Field(
        None,
        description="Trained tokens before which no trial ends: the first rung. None ever ends "
        "before its warm-up is over. Default: a ninth of a trial's tokens.",
    )
    reduction_factor: Annotated[
        Annotated[int, Field(ge=2, le=16)] | None,
        DecidedLater("3", lambda pruner: pruner.type == "asha"),
    ] = Field(
        None,
        description="With asha: each rung has as many times the tokens of the one before. "
        "Default: 3.",
    )


class Terminator(ApiModel):
    """Begins no further trial once the search could gain less than its measure can tell apart.

    What could be gained is a bound by a Gaussian process over the trials; the measure's error is
    that of the best trial's loss between parts of the rows that choose (Makarova et al. 2022,
    AutoML; Optuna's terminator). One trial takes some two tenths of a second to be looked at.
    """

    min_trials: Annotated[int, Field(ge=4, le=1000)] = Field(
        10, description="Trials that have to be completed before."
    )
    parts: Annotated[int, Field(ge=3, le=50)] = Field(
        10,
        description="Of the rows that choose, whole questions; the standard error is that of their "
        "mean losses.",
    )


class SearchBudget(ApiModel):
    """What ends a search: the first bound reached; tokens and seconds end running trials, too."""

    max_trials: Annotated[int, Field(ge=1, le=1000)] = 20
    max_tokens: Annotated[
        Annotated[int, Field(ge=1, le=10**15)] | None, DecidedLater("no bound")
    ] = Field(None, description="Trained tokens of all trials together. Default: no bound.")
    max_seconds: Annotated[Positive | None, DecidedLater("no bound")] = Field(
        None,
        description="Seconds of all trials together, each counted by itself: seconds of a GPU "
        "where each has one. Default: no bound.",
    )


class SearchMemory(ApiModel):
    """What earlier jobs have tried, as the first trials; a grid has an order of its own."""

    use: Literal["auto", "none"] = Field(
        "auto",
        description="auto: a search begins with settings that did well in finished jobs like this "
        "one, where any are remembered. none: as if there were none.",
    )
    max_share: Annotated[float, Field(gt=0.0, le=0.3)] = Field(
        0.3,
        description="Part of budget.maxTrials that memory may choose, rounded down; the others "
        "are the sampler's.",
    )
    max_sources: Annotated[int, Field(ge=1, le=64)] = Field(
        8, description="Tasks that are asked: the nearest ones."
    )


class Search(ApiModel):
    """Trials of other settings; training then has those of the best one."""

    method: Literal["grid", "random", "bayesian"] = Field(
        "bayesian",
        description="grid: every combination, in order. random: drawn independently. bayesian: "
        "each trial is chosen by what those before it have shown (Optuna).",
    )
    sampler: Annotated[
        Literal["tpe", "gp"] | None,
        DecidedLater("tpe", lambda search: search.method == "bayesian"),
    ] = Field(
        None,
        description="With bayesian: tpe, Parzen estimators (Bergstra et al. 2011), or gp, a "
        "Gaussian process, for few trials of few continuous parameters. Default: tpe.",
    )
    parameters: Annotated[list[Parameter], Field(min_length=1, max_length=16)]
    objectives: Annotated[list[Objective], Field(min_length=1, max_length=4)] = Field(
        default_factory=lambda: [Objective(metric="heldOutLoss")],
        description="What is to be good. The best of several is the last that is left when each in "
        "turn keeps the trials within its tolerance.",
    )
    pruner: Annotated[Pruner | None, DecidedLater("every trial runs to its end")] = Field(
        None, description="Default: every trial runs to its end."
    )
    terminator: Annotated[Terminator | None, DecidedLater("the budget ends the search")] = Field(
        None, description="Default: the budget ends the search."
    )
    budget: SearchBudget = SearchBudget()
    memory: SearchMemory = SearchMemory()
    max_parallel: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="Trials at a time. They share the processors, or each has an accelerator of "
        "the job's.",
    )
    selection_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5,
        description="Part of the held-out rows that trials, and then training, choose by. The "
        "evaluation scores the others, which nothing was chosen by.",
    )
    refit: bool = Field(
        True,
        description="Train anew with the best settings, by as many workers as there are. false: "
        "the weights of the best trial are taken as they are.",
    )
    seed: Seed = 0


PARAMETER_RULES: Final[tuple[Rule[Parameter], ...]] = (
    Rule(
        name="parameter-has-one-kind-of-space",
        scopes=("search.parameters.*",),
        field="",
        holds=lambda space: (
            [
                space.minimum is not None or space.maximum is not None,
                bool(space.values),
                bool(space.choices),
            ].count(True)
            == 1
        ),
        cel="(has(self.minimum) || has(self.maximum)) ? (self.values.size() == 0 && "
        "self.choices.size() == 0) : ((self.values.size() > 0) != (self.choices.size() > 0))",
        message="a parameter has one space; give minimum and maximum, or values, or choices",
    ),
    Rule(
        name="range-has-two-ends",
        scopes=("search.parameters.*",),
        field="maximum",
        holds=lambda space: (
            (space.minimum is None) == (space.maximum is None)
            and (space.minimum is None or space.maximum is None or space.minimum < space.maximum)
        ),
        cel="has(self.minimum) == has(self.maximum) && "
        "(!has(self.minimum) || self.minimum < self.maximum)",
        message="a range has two ends, the lower one first; give minimum and a larger maximum",
    ),
    Rule(
        name="log-and-step-are-of-ranges",
        scopes=("search.parameters.*",),
        field="log",
        holds=lambda space: space.minimum is not None or (not space.log and space.step is None),
        cel="has(self.minimum) || (!self.log && !has(self.step))",
        message="log and step say how values are drawn from a range; leave them out, or give "
        "minimum and maximum",
    ),
    Rule(
        name="log-range-is-positive",
        scopes=("search.parameters.*",),
        field="log",
        holds=lambda space: (
            not space.log or space.minimum is None or (space.minimum > 0.0 and space.step is None)
        ),
        cel="!self.log || !has(self.minimum) || (self.minimum > 0.0 && !has(self.step))",
        message="orders of magnitude begin above 0 and have no step; raise minimum and leave step "
        "out, or set log: false",
    ),
)

PRUNER_RULES: Final[tuple[Rule[Pruner], ...]] = (
    Rule(
        name="reduction-is-of-asha",
        scopes=("search.pruner",),
        field="reductionFactor",
        holds=lambda pruner: pruner.type == "asha" or pruner.reduction_factor is None,
        cel="self.type == 'asha' || !has(self.reductionFactor)",
        message="only asha has rungs; leave reductionFactor out, or choose type: asha",
    ),
)


def _fields(search: Search) -> list[str]:
    return [parameter.field for parameter in search.parameters]


def _is_known(search: Search, parameter: Parameter) -> bool:
    when = parameter.when
    free = {other.field for other in search.parameters if other.when is None}
    return when is None or (when.field != parameter.field and when.field in free)


def _has_one_loss(search: Search) -> bool:
    return [objective.metric for objective in search.objectives] == ["heldOutLoss"]


RULES: Final[tuple[Rule[Search], ...]] = (
    Rule(
        name="parameters-differ",
        scopes=("search",),
        field="parameters",
        holds=lambda search: len(set(_fields(search))) == len(search.parameters),
        cel="self.parameters.all(p, self.parameters.exists_one(q, q.field == p.field))",
        message="two parameters are of one field; give each field once",
    ),
    Rule(
        name="conditions-are-of-parameters",
        scopes=("search",),
        field="parameters",
        holds=lambda search: all(_is_known(search, each) for each in search.parameters),
        cel="self.parameters.all(p, !has(p.when) || (p.when.field != p.field && "
        "self.parameters.exists(q, q.field == p.when.field && !has(q.when))))",
        message="when.field is another of the parameters, one without a condition of its own; "
        "add it, or leave when out",
    ),
    Rule(
        name="objectives-differ",
        scopes=("search",),
        field="objectives",
        holds=lambda search: (
            len({objective.metric for objective in search.objectives}) == len(search.objectives)
        ),
        cel="self.objectives.all(o, self.objectives.exists_one(p, p.metric == o.metric))",
        message="two objectives have one metric; give each metric once",
    ),
    Rule(
        name="grid-is-finite",
        scopes=("search",),
        field="parameters",
        holds=lambda search: (
            search.method != "grid"
            or all(each.minimum is None or each.step is not None for each in search.parameters)
        ),
        cel="self.method != 'grid' || self.parameters.all(p, !has(p.minimum) || has(p.step))",
        message="a grid has no end without steps; give each range a step, or values in its place",
    ),
    Rule(
        name="sampler-is-bayesian",
        scopes=("search",),
        field="sampler",
        holds=lambda search: search.method == "bayesian" or search.sampler is None,
        cel="self.method == 'bayesian' || !has(self.sampler)",
        message="grid and random need no sampler; leave it out, or choose method: bayesian",
    ),
    Rule(
        name="pruning-by-one-loss",
        scopes=("search",),
        field="pruner",
        holds=lambda search: search.pruner is None or _has_one_loss(search),
        cel="!has(self.pruner) || "
        "(self.objectives.size() == 1 && self.objectives[0].metric == 'heldOutLoss')",
        message="trials are ended early by one loss; leave pruner out, or have heldOutLoss as the "
        "only objective",
    ),
    Rule(
        name="termination-by-one-loss",
        scopes=("search",),
        field="terminator",
        holds=lambda search: search.terminator is None or _has_one_loss(search),
        cel="!has(self.terminator) || "
        "(self.objectives.size() == 1 && self.objectives[0].metric == 'heldOutLoss')",
        message="the error is known of the held-out loss alone; leave terminator out, or have "
        "heldOutLoss as the only objective",
    ),
    Rule(
        name="one-best-is-kept",
        scopes=("search",),
        field="refit",
        holds=lambda search: search.refit or len(search.objectives) == 1,
        cel="self.refit || self.objectives.size() == 1",
        message="of several objectives a later trial can make an earlier one the best, whose "
        "weights are gone; set refit: true, or have one objective",
    ),
)
