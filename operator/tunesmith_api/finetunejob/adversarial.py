"""`spec.training.adversarial`: training on inputs that are moved to where the loss is highest."""

from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.rules import Rule

DEFAULT_VAT_WEIGHT: Final = 1.0


class Adversarial(ApiModel):
    """Embeddings of a row's tokens are moved by gradient ascent, each within a radius.

    The loss under such an attack is measured on held-out rows beside the plain one.
    """

    type: Literal["freelb", "vat"] = Field(
        "freelb",
        description="freelb: the mean loss over the steps of the ascent, in place of the plain one "
        "(Zhu et al. 2020, arXiv 1909.11764). vat: the plain loss, and a penalty on answers that "
        "change under the ascent (virtual adversarial training, Miyato et al. 2018, arXiv "
        "1704.03976).",
    )
    epsilon: Annotated[float, Field(gt=0.0, le=10.0)] = Field(
        0.02,
        description="How far the embedding of a token may be moved, as a part of the mean length "
        "of the model's embeddings.",
    )
    steps: Annotated[int, Field(ge=1, le=16)] = Field(
        2, description="Steps of the ascent, each a forward and a backward pass."
    )
    weight: Annotated[
        Annotated[float, Field(gt=0.0, le=100.0)] | None,
        DecidedLater(
            f"{DEFAULT_VAT_WEIGHT:g}", applies=lambda adversarial: adversarial.type == "vat"
        ),
    ] = Field(
        None,
        description="With vat: times the mean KL(plain || moved) of a target, added to its loss. "
        f"Default: {DEFAULT_VAT_WEIGHT:g}.",
    )

    @property
    def num_passes(self) -> int:
        """Forward and backward passes of a step, where plain training has one."""
        return self.steps if self.type == "freelb" else self.steps + 2


RULES: Final[tuple[Rule[Adversarial], ...]] = (
    Rule(
        name="penalty-of-vat",
        scopes=("training.adversarial",),
        field="weight",
        holds=lambda adversarial: adversarial.type == "vat" or adversarial.weight is None,
        cel="self.type == 'vat' || !has(self.weight)",
        message="freelb has no penalty to weigh; leave weight out, or choose type: vat",
    ),
)
