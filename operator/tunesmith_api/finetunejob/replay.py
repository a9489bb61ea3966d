"""`spec.dataset.replay`: rows that remind the model of what it knew."""

from typing import Annotated, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import Seed, ShortText
from tunesmith_api.finetunejob.data_source import DataFormat, DataSource
from tunesmith_api.rules import Rule


class SelfSynthesis(ApiModel):
    """Rows that the base model makes up itself, for want of what it was trained on.

    Chat models write the user's turn and then answer it (Magpie, Xu et al. 2024, arXiv 2406.08464);
    others go on from their begin token.
    """

    rows: Annotated[int, Field(ge=8, le=1_000_000)] = 256
    max_new_tokens: Annotated[int, Field(ge=8, le=8192)] = Field(
        64, description="Longest turn, or text, in tokens."
    )
    temperature: Annotated[float, Field(gt=0.0, le=5.0)] = 1.0
    seed: Seed = 0


class Replay(ApiModel):
    """Mix rows of general data into training (Ibrahim et al. 2024, arXiv 2403.08763).

    They take the place of own rows in a step, and the run gets as many more steps.
    """

    ratio: Annotated[float, Field(gt=0.0, le=0.9)] = Field(
        0.05,
        description="Part of the rows of every step, in the long run. 0.01 to 0.05 for a related "
        "task, 0.25 for one that is far from what the base has seen.",
    )
    source: DataSource | None = Field(
        None, description="General data of your own; not with `selfSynthesis`."
    )
    format: DataFormat = Field("auto", description="Shape of a row of `source`.")
    columns: dict[ShortText, ShortText] = Field(
        default_factory=dict,
        max_length=20,
        description="Names in `source` for the names of the format.",
    )
    self_synthesis: SelfSynthesis | None = Field(
        None, description="Let the base model write the rows; not with `source`."
    )


RULES: Final[tuple[Rule[Replay], ...]] = (
    Rule(
        name="replay-has-one-source",
        scopes=("dataset.replay",),
        field="",
        holds=lambda replay: (replay.source is None) != (replay.self_synthesis is None),
        cel="has(self.source) != has(self.selfSynthesis)",
        message="replay rows come from one place; give source or selfSynthesis",
    ),
)
