"""`spec.training` and `spec.checkpoint`: how the model learns.

What holds overfitting and forgetting back has its fields here, too.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater, PlannedDefault
from tunesmith_api.field_types import Fraction, Positive, Seed, ShortText
from tunesmith_api.finetunejob.preference import Dpo
from tunesmith_api.rules import Rule

DEFAULT_EPOCHS: Final = 3.0
# By objective and method. Adapters learn best at about ten times the rate of full fine-tuning
# (Biderman et al. 2024, arXiv 2405.09673). DPO takes less, or the model drifts from its base: TRL's
# default is 1e-6 and Zephyr's recipes have 5e-7 (5e-6 with adapters) for 7 billion weights. Ours
# are ten times that, for smaller models; they were chosen, not measured.
DEFAULT_LEARNING_RATES: Final[Mapping[str, Mapping[str, float]]] = {
    "sft": {"lora": 2e-4, "full": 2e-5},
    "dpo": {"lora": 5e-5, "full": 5e-6},
}
# The update is scaled by alpha / rank: with alpha tied to it, another rank keeps the scale.
DEFAULT_ALPHA_PER_RANK: Final = 2.0


class Lora(ApiModel):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[Annotated[float, Field(gt=0, le=4096)] | None, PlannedDefault()] = Field(
        None, description="Scale of the update. Default: twice the rank."
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: Annotated[list[ShortText], Field(min_length=1, max_length=64)] = Field(
        default_factory=lambda: ["all-linear"],
        description="Names of the modules that get adapters; all-linear means every linear "
        "layer but the head.",
    )

    def with_defaults(self) -> Self:
        """With `alpha` filled in."""
        if self.alpha is not None:
            return self
        return self.model_copy(update={"alpha": DEFAULT_ALPHA_PER_RANK * self.rank})


class Optimizer(ApiModel):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101); norms and biases are never decayed."""

    learning_rate: Annotated[
        Annotated[float, Field(gt=0.0, le=1.0)] | None,
        PlannedDefault(),
    ] = Field(
        None,
        description="Peak learning rate. Default: 2e-4 for lora, 2e-5 for full; with objective "
        "dpo, 5e-5 for lora, 5e-6 for full.",
    )
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    max_grad_norm: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0

    def with_defaults(self, *, objective: str, method: str) -> Self:
        """With `learning_rate` filled in for the objective and the method of training."""
        if self.learning_rate is not None:
            return self
        rate = DEFAULT_LEARNING_RATES[objective][method]
        return self.model_copy(update={"learning_rate": rate})


class Schedule(ApiModel):
    """How the learning rate moves: linear warm-up, then the named decay to a floor."""

    type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = Field(0.05, description="Part of all steps spent warming up.")
    min_learning_rate_ratio: Fraction = Field(0.1, description="Floor, as a part of the peak rate.")


class Batch(ApiModel):
    """Rows per optimizer step, over all workers, and rows per forward pass of one worker."""

    # NB: a rule compares both and names the default of micro_batch_size in its message.
    size: Annotated[int, Field(ge=1, le=65536)] = 16
    micro_batch_size: Annotated[int, Field(ge=1, le=4096)] = 4


class Training(ApiModel):
    """How the model is trained."""

    method: Literal["lora", "full"] = "lora"
    objective: Literal["sft", "dpo"] = Field(
        "sft",
        description="sft: say what the rows say. dpo: prefer the chosen answers of rows of format "
        "preference.",
    )
    dpo: Dpo = Dpo()
    lora: Lora = Lora()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    batch: Batch = Batch()
    epochs: Annotated[Annotated[float, Field(gt=0.0, le=1000.0)] | None, PlannedDefault()] = Field(
        None,
        description="Passes over the training rows. "
        f"Default {DEFAULT_EPOCHS:g}; not with `maxSteps`.",
    )
    max_steps: Positive | None = Field(None, description="Optimizer steps; not with `epochs`.")
    sequence_length: Annotated[int, Field(ge=8, le=1_048_576)] = Field(
        1024, description="Longest row in tokens; never more than the model's context."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Autocast type. auto: bf16 where the processor computes it natively."
    )
    evaluate_every_steps: Annotated[Positive | None, DecidedLater("a tenth of all steps")] = Field(
        None, description="Steps between held-out evaluations. Default: a tenth of all steps."
    )
    seed: Seed = 0

    def with_defaults(self) -> Self:
        """With the learning rate, alpha and, where nothing says when to stop, epochs filled in."""
        update: dict[str, object] = {
            "lora": self.lora.with_defaults(),
            "optimizer": self.optimizer.with_defaults(objective=self.objective, method=self.method),
        }
        if self.epochs is None and self.max_steps is None:
            update["epochs"] = DEFAULT_EPOCHS
        return self.model_copy(update=update)


class Checkpoint(ApiModel):
    """How often training can be continued from, and how many such points are kept."""

    # Neither field is in the key of a stage: keeping a run more often computes nothing else.
    every_steps: Annotated[Positive | None, DecidedLater("a tenth of all steps")] = Field(
        None, description="Default: a tenth of all steps."
    )
    keep: Annotated[int, Field(ge=1, le=100)] = 2


RULES: Final[tuple[Rule[Training], ...]] = (
    Rule(
        name="epochs-or-max-steps",
        scopes=("training",),
        field="maxSteps",
        holds=lambda training: training.epochs is None or training.max_steps is None,
        cel="!has(self.epochs) || !has(self.maxSteps)",
        message="epochs and maxSteps both say when training ends; give one of them",
    ),
)

BATCH_RULES: Final[tuple[Rule[Batch], ...]] = (
    Rule(
        name="micro-batch-within-batch",
        scopes=("training.batch",),
        field="microBatchSize",
        holds=lambda batch: batch.micro_batch_size <= batch.size,
        cel="self.microBatchSize <= self.size",
        message="microBatchSize (default 4) is at most batch.size; lower it or raise size",
    ),
)
