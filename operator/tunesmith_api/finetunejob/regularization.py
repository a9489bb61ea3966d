"""`spec.training.regularization`, `earlyStopping`, `control`: what holds overfitting back.

Weight decay is the optimizer's (`training.optimizer`), dropout of the adapters LoRA's own
(`training.lora.dropout`).
"""

from typing import Annotated

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import Positive


class Regularization(ApiModel):
    """Noise in training, and in training alone: no loss that is measured has any of it."""

    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0,
        description="Share of a target's weight that is spread over the whole vocabulary "
        "(Szegedy et al. 2016, arXiv 1512.00567).",
    )
    neftune_noise_alpha: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        0.0,
        description="Uniform noise on the embeddings, alpha / sqrt(tokens of the row x hidden "
        "size) at most (NEFTune, Jain et al. 2023, arXiv 2310.05914; there 5 to 15).",
    )
    attention_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="Probability with which an attention weight is dropped."
    )
    embedding_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="Probability with which a number of a token's embedding is dropped."
    )


class EarlyStopping(ApiModel):
    """End training once the held-out loss stops falling; the best weights are kept in any case."""

    patience: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="Evaluations one after another without an improvement, after which it ends."
    )
    min_delta: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        0.0,
        description="Nats per target token by which the held-out loss must fall below the lowest "
        "so far to count as an improvement.",
    )


class Control(ApiModel):
    """A second run from the same seed over the same rows, without the remedies."""

    steps: Positive = Field(
        description="How many of the first optimizer steps it has; each costs what it costs in "
        "the run itself."
    )
