"""`spec.training.freeze`: what of the model training leaves as it is, so that it forgets less."""

from typing import Annotated

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import ShortText


class Freeze(ApiModel):
    """Parts that stay as they are: not trained by full, without adapters under lora."""

    layers: Annotated[int, Field(ge=0, le=10_000)] = Field(
        0, description="The first so many layers of the model."
    )
    embeddings: bool = Field(
        False,
        description="The token embeddings, and with them the head of a model that uses one matrix "
        "for both. lora never trains them.",
    )
    modules: Annotated[list[ShortText], Field(max_length=64)] = Field(
        default_factory=list,
        description="Patterns over the paths of modules, such as model.layers.*.mlp; `*` stands "
        "for anything. What lies below a module is frozen with it.",
    )

    @property
    def is_asked_for(self) -> bool:
        """Whether anything is to be frozen."""
        return self.layers > 0 or self.embeddings or bool(self.modules)
