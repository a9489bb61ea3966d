"""`spec.evaluation.explain`: which parts of a prompt move the tuned model, and how surely."""

from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import Seed
from tunesmith_api.rules import Rule

Method = Literal["shap", "lime", "integratedGradients", "occlusion"]
METHODS: Final[tuple[Method, ...]] = ("shap", "lime", "integratedGradients", "occlusion")
Units = Literal["auto", "turns", "sentences", "words", "tokens"]


class Surrogate(ApiModel):
    """A sparse linear model and a decision tree over words, fitted to the tuned model's decisions.

    A decision is the likeliest of the held-out rows' answers where these are 2 to 20, else how
    likely the wanted answer is. Fidelity is judged on the half that nothing was fitted to.
    """

    rows: Annotated[int, Field(ge=16, le=100_000)] = Field(
        512, description="Held-out rows that are decided, drawn by `seed`; half of them fit."
    )
    max_words: Annotated[int, Field(ge=1, le=10_000)] = Field(
        500, description="Most words that are looked at, the most frequent ones."
    )
    max_depth: Annotated[int, Field(ge=1, le=8)] = Field(3, description="Of the tree.")


class Explain(ApiModel):
    """Attributions of held-out rows: nats per answer token that each unit of the prompt adds.

    A unit that is absent is cut out of the row; integrated gradients blend its embeddings with
    those of the mean token.
    """

    methods: Annotated[list[Method], Field(min_length=1, max_length=4)] = Field(
        default_factory=lambda: [*METHODS],
        description="shap: exact for as many as 8 units, else `estimator`. lime: weighted ridge "
        "regression. integratedGradients: over embeddings. occlusion: each unit left out once.",
    )
    estimator: Literal["kernel", "partition"] = Field(
        "kernel",
        description="Of shap beyond 8 units. kernel: KernelSHAP. partition: Owen values over "
        "halves of the prompt, without drawing samples.",
    )
    units: Units = Field(
        "auto",
        description="What is attributed to. auto: words where there are at most `maxUnits`, else "
        "sentences, else turns.",
    )
    max_units: Annotated[int, Field(ge=2, le=128)] = Field(
        24, description="Most units of a row; neighbours are joined beyond."
    )
    rows: Annotated[int, Field(ge=1, le=1000)] = Field(
        8, description="Held-out rows that are explained."
    )
    choose: Literal["failures", "random"] = Field(
        "failures", description="failures: the rows with the highest loss. random: by `seed`."
    )
    answer: Literal["reference", "generated"] = Field(
        "reference",
        description="Whose likelihood is explained: the wanted answer's, or that of what the model "
        "says by itself.",
    )
    max_passes: Annotated[int, Field(ge=16, le=8192)] = Field(
        192,
        description="Most forward passes of a row and method, over all seeds; faithfulness "
        "comes on top.",
    )
    seeds: Annotated[int, Field(ge=1, le=10)] = Field(
        3, description="Runs of methods that draw samples; their ranks are compared."
    )
    global_rows: Annotated[int, Field(ge=0, le=10_000)] = Field(
        32, description="Held-out rows of the view over all rows, by occlusion. 0: none."
    )
    attention: bool = Field(
        True, description="Also write maps of attention, which are no explanation of a cause."
    )
    surrogate: Annotated[Surrogate | None, DecidedLater("none")] = Field(
        None, description="Also fit simpler models to what the tuned model decides."
    )
    show_text: bool = Field(
        False,
        description="Show words of rows in the report. Without it they stand in the artifacts "
        "of the stage alone; a published version never has them.",
    )
    seed: Seed = 0


RULES: Final[tuple[Rule[Explain], ...]] = (
    Rule(
        name="explain-methods-differ",
        scopes=("evaluation.explain",),
        field="methods",
        holds=lambda explain: len(set(explain.methods)) == len(explain.methods),
        cel="!has(self.methods) || self.methods.all(one, "
        "self.methods.exists_one(other, other == one))",
        message="a method is named twice; name each once",
    ),
    Rule(
        name="explain-passes-for-seeds",
        scopes=("evaluation.explain",),
        field="maxPasses",
        holds=lambda explain: explain.max_passes >= 16 * explain.seeds,
        cel="(has(self.maxPasses) ? self.maxPasses : 192) >= "
        "16 * (has(self.seeds) ? self.seeds : 3)",
        message="each seed needs 16 passes or more; raise maxPasses, or lower seeds",
    ),
)
