"""`spec.dataset.synthesis`: new training rows that a language model writes."""

from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.endpoint import Endpoint
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import Positive, Seed
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.rules import Rule

Method = Literal["selfInstruct", "evolve", "answers"]
MaxNewTokens = Annotated[int, Field(ge=8, le=8192)]


_DEFAULT_METHODS: Final[tuple[Method, ...]] = ("selfInstruct",)


class Writer(ApiModel):
    """The model that writes: behind an endpoint, or in vLLM where the job runs."""

    endpoint: Annotated[Endpoint | None, DecidedLater("none: a model in vLLM")] = None
    model: Annotated[
        ModelSource | None,
        DecidedLater("the job's base model", applies=lambda writer: writer.endpoint is None),
    ] = Field(
        None,
        description="A model that vLLM runs in the stage itself; not with `endpoint`. Default: the "
        "job's own base model.",
    )


class Critic(ApiModel):
    """Scores each question with its answer from 1 to 5; low ones are thrown away."""

    min_score: Annotated[int, Field(ge=1, le=5)] = Field(
        4, description="Least score. 1 takes all, and asks nobody."
    )
    endpoint: Annotated[
        Endpoint | None,
        DecidedLater("the generator", applies=lambda critic: critic.min_score > 1),
    ] = Field(None, description="Who scores. Default: the generator.")


class Synthesis(ApiModel):
    """Add rows with new questions, and answers to them, in the manner of the training rows.

    The stage `synthesize` writes them behind `prepare`: held-out rows are shown to no model, and
    stay as they are. Nonsense, refusals, echoes, orders to a model, and what is nearly a row that
    is there already, held-out ones included, are thrown away and counted.
    """

    ratio: Annotated[float, Field(gt=0.0, le=10.0)] = Field(
        0.5,
        description="New rows for each training row; with `balance.method: synthesize` so many at "
        "most, of what the groups lack.",
    )
    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        10_000, description="New rows at most, whatever `ratio` comes to."
    )
    methods: Annotated[list[Method], Field(min_length=1, max_length=3)] = Field(
        default_factory=lambda: [*_DEFAULT_METHODS],
        description="`selfInstruct`: a new question, after a few of the job's as examples (Wang et "
        "al. 2022, arXiv 2212.10560). `evolve`: one question made deeper, or carried elsewhere "
        "(Xu et al. 2023, arXiv 2304.12244). `answers`: a training row's own question, each once, "
        "which distils the generator through its words (Kim and Rush 2016, arXiv 1606.07947). "
        "Several take turns.",
    )
    examples: Annotated[int, Field(ge=1, le=8)] = Field(
        3, description="Training rows that are shown for each new one."
    )
    generator: Writer = Writer()
    critic: Critic = Critic()
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        0.8, description="Of new questions; answers and scores are without randomness."
    )
    max_new_tokens: MaxNewTokens = Field(512, description="Longest question or answer, in tokens.")
    max_tokens: Annotated[Positive | None, DecidedLater("no bound")] = Field(
        None,
        description="Tokens, read and written, after which nothing more is asked; the rows that "
        "are there by then are taken. Default: no bound.",
    )
    max_cost: Annotated[
        Annotated[float, Field(gt=0.0, le=1e9)] | None, DecidedLater("no bound")
    ] = Field(
        None,
        description="As maxTokens, in the currency of `pricePerMillionTokens`. Default: no bound.",
    )
    max_minutes: Annotated[
        Annotated[float, Field(gt=0.0, le=100_000.0)] | None, DecidedLater("no bound")
    ] = Field(None, description="As maxTokens, in minutes of one attempt. Default: no bound.")
    seed: Seed = Field(0, description="Decides which rows are shown, and in what order.")

    @property
    def runs_a_model(self) -> bool:
        """Whether the stage itself runs the generator."""
        return self.generator.endpoint is None

    @property
    def asks_a_critic(self) -> bool:
        """Whether anything is scored."""
        return self.critic.min_score > 1


RULES: Final[tuple[Rule[Synthesis], ...]] = (
    Rule(
        name="one-generator",
        scopes=("dataset.synthesis",),
        field="generator.model",
        holds=lambda synthesis: (
            synthesis.generator.endpoint is None or synthesis.generator.model is None
        ),
        cel="!has(self.generator.endpoint) || !has(self.generator.model)",
        message="one model writes the rows; give endpoint or model, or neither for the base model",
    ),
    Rule(
        name="each-method-once",
        scopes=("dataset.synthesis",),
        field="methods",
        holds=lambda synthesis: len(set(synthesis.methods)) == len(synthesis.methods),
        cel="self.methods.all(method, self.methods.exists_one(other, other == method))",
        message="methods take turns as it is; name each of them once",
    ),
    Rule(
        name="critic-has-a-bound",
        scopes=("dataset.synthesis",),
        field="critic.endpoint",
        holds=lambda synthesis: synthesis.asks_a_critic or synthesis.critic.endpoint is None,
        cel="!has(self.critic.endpoint) || self.critic.minScore > 1",
        message="with minScore 1 no critic is asked; raise it, or leave endpoint out",
    ),
    Rule(
        name="cost-has-prices",
        scopes=("dataset.synthesis",),
        field="maxCost",
        holds=lambda synthesis: (
            synthesis.max_cost is None
            or any(
                endpoint is not None and endpoint.price_per_million_tokens is not None
                for endpoint in (synthesis.generator.endpoint, synthesis.critic.endpoint)
            )
        ),
        cel="!has(self.maxCost) || "
        "(has(self.generator.endpoint) && has(self.generator.endpoint.pricePerMillionTokens)) || "
        "(has(self.critic.endpoint) && has(self.critic.endpoint.pricePerMillionTokens))",
        message="without pricePerMillionTokens of an endpoint nothing has a cost; give it, or set "
        "maxTokens",
    ),
)
