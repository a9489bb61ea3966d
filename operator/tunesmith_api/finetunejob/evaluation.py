"""`spec.evaluation`: what is measured of base and tuned model, and the bounds that must hold."""

from typing import Annotated, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.finetunejob.dataset import DataSource


class Generation(ApiModel):
    """The metric over generated answers."""

    metric: Literal["auto", "exactMatch", "rougeL", "chrf", "none"] = Field(
        "auto",
        description="auto: exactMatch for answers of one or two words, else rougeL; chrf "
        "without word spaces.",
    )
    max_samples: Annotated[int, Field(ge=1, le=10_000)] = 32
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 64


class Bootstrap(ApiModel):
    """Percentile bootstrap over rows (Efron 1979)."""

    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class Gate(ApiModel):
    """A bound the tuned model must keep; exactly one of the four bounds is given."""

    suite: Literal["heldOut", "general"] = "heldOut"
    metric: Literal["loss", "perplexity", "exactMatch", "rougeL", "chrf"] = "loss"
    min: float | None = Field(None, description="The value must be at least this.")
    max: float | None = Field(None, description="The value must be at most this.")
    min_delta: float | None = Field(
        None, description="Value minus the base's must be at least this."
    )
    max_delta: float | None = Field(
        None, description="Value minus the base's must be at most this."
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
    gates: Annotated[list[Gate], Field(max_length=32)] = Field(
        default_factory=lambda: [Gate(suite="heldOut", metric="loss", max_delta=0.0)],
        description="Bounds that must hold. Default: the held-out loss is no worse than "
        "the base's.",
    )
