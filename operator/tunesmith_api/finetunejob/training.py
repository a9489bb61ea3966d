"""`spec.training` and `spec.checkpoint`: how the model learns.

What holds overfitting and forgetting back has its fields here, too.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater, PlannedDefault
from tunesmith_api.field_types import Fraction, Positive, Seed, ShortText
from tunesmith_api.finetunejob.adversarial import Adversarial
from tunesmith_api.finetunejob.distillation import Distillation
from tunesmith_api.finetunejob.explanation_objective import ExplanationObjective
from tunesmith_api.finetunejob.fairness_remedy import FairnessRemedy
from tunesmith_api.finetunejob.forgetting import ForgettingBudget, KlToBase
from tunesmith_api.finetunejob.freeze import Freeze
from tunesmith_api.finetunejob.gradient_checkpointing import GradientCheckpointing
from tunesmith_api.finetunejob.preference import Dpo
from tunesmith_api.finetunejob.regularization import Control, EarlyStopping, Regularization
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
# rsLoRA scales by alpha / sqrt(rank), which keeps the size of updates where alpha stays: this one
# scales rank 16 by 2, as the default without it does.
DEFAULT_RSLORA_ALPHA: Final = 8.0
_EVALUATIONS: Final = "a tenth of all steps, or more where measuring costs half of the training"


class Lora(ApiModel):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[Annotated[float, Field(gt=0, le=4096)] | None, PlannedDefault()] = Field(
        None,
        description="Scale of the update. Default: twice the rank; with useRslora "
        f"{DEFAULT_RSLORA_ALPHA:g}.",
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: Annotated[list[ShortText], Field(min_length=1, max_length=64)] = Field(
        default_factory=lambda: ["all-linear"],
        description="Names of the modules that get adapters; all-linear means every linear "
        "layer but the head.",
    )
    use_rslora: bool = Field(
        False,
        description="Scale by alpha / sqrt(rank) instead of alpha / rank, so that high ranks learn "
        "as fast as low ones (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732).",
    )
    use_dora: bool = Field(
        False,
        description="Learn magnitude and direction of the weights apart (DoRA, Liu et al. 2024, "
        "arXiv 2402.09353). vLLM serves it merged only.",
    )
    loraplus_lr_ratio: Annotated[float, Field(ge=1.0, le=1000.0)] = Field(
        1.0,
        description="Rate of the B matrices, as a multiple of that of the A matrices (LoRA+, "
        "Hayou et al. 2024, arXiv 2402.12354, who advise 16 and a lower learning rate).",
    )

    quantization: Literal["none", "nf4"] = Field(
        "none",
        description="What frozen linear layers are held in. nf4: four bits (QLoRA, Dettmers et al. "
        "2023, arXiv 2305.14314), by bitsandbytes; adapters are merged onto the weights as they "
        "were.",
    )

    def with_defaults(self) -> Self:
        """With `alpha` filled in."""
        if self.alpha is not None:
            return self
        alpha = DEFAULT_RSLORA_ALPHA if self.use_rslora else DEFAULT_ALPHA_PER_RANK * self.rank
        return self.model_copy(update={"alpha": alpha})


class Optimizer(ApiModel):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101); norms and biases are never decayed."""

    type: Literal["adamw", "adamw_8bit"] = Field(
        "adamw",
        description="adamw: PyTorch's fused kernel. adamw_8bit: moments in eight bits, by "
        "bitsandbytes (Dettmers et al. 2021, arXiv 2110.02861).",
    )
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
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0,
        description="Layer-wise rates (Howard & Ruder 2018, arXiv 1801.06146): the rate of a layer "
        "is this part of the rate of the layer above it, and that of the embeddings this part of "
        "the first layer's. The head has the rate of the last layer.",
    )

    def with_defaults(self, *, objective: str, method: str) -> Self:
        """With `learning_rate` filled in for the objective and the method of training."""
        if self.learning_rate is not None:
            return self
        rate = DEFAULT_LEARNING_RATES[objective][method]
        return self.model_copy(update={"learning_rate": rate})


class Schedule(ApiModel):
    """How the learning rate moves: linear warm-up, then the named decay to a floor."""

    type: Literal["cosine", "linear", "constant", "wsd"] = Field(
        "cosine",
        description="wsd: warm-up, stable, decay (Hägele et al. 2024, arXiv 2405.18392): the peak "
        "rate until the last steps.",
    )
    warmup_ratio: Fraction = Field(0.05, description="Part of all steps spent warming up.")
    min_learning_rate_ratio: Fraction = Field(0.1, description="Floor, as a part of the peak rate.")
    decay_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.2, description="Part of all steps over which wsd decays."
    )
    decay_type: Literal["1-sqrt", "linear"] = Field(
        "1-sqrt", description="How wsd decays: by one minus the root of the part done, or linearly."
    )
    cycles: Annotated[int, Field(ge=1, le=1000)] = Field(
        1,
        description="Warm-up and decay as often as this, one after the other: each begins at the "
        "floor of the one before (Ibrahim et al. 2024, arXiv 2403.08763).",
    )


class Batch(ApiModel):
    """Rows per optimizer step, over all workers, and rows per forward pass of one worker."""

    size: Annotated[int, Field(ge=1, le=65536)] = 16
    micro_batch_size: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | None,
        DecidedLater("as many as fit the memory: at most 4 on processors"),
    ] = Field(
        None,
        description="Gradients of as many forward passes as make up size are accumulated. Default: "
        "as many rows as fit the memory, at most 4 on processors.",
    )


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
    freeze: Freeze = Freeze()
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
        "auto",
        description="Autocast type. auto: the faster one, tried for a second; bf16 on accelerators "
        "that have it.",
    )
    compile: bool = Field(
        False,
        description="Compile the model's layers (torch.compile): steps are faster, the first ones "
        "wait for the compiler.",
    )
    parallelism: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="How several workers share a model. ddp: each holds all of it. fsdp: weights, "
        "gradients and moments are sharded over them (PyTorch FSDP2; Zhao et al. 2023, arXiv "
        "2304.11277), for models larger than a device.",
    )
    evaluate_every_steps: Annotated[Positive | None, DecidedLater(_EVALUATIONS)] = Field(
        None, description=f"Steps between held-out evaluations. Default: {_EVALUATIONS}."
    )
    gradient_checkpointing: GradientCheckpointing = Field(
        "auto",
        description="Which layers compute their activations again in the backward pass instead of "
        "keeping them (Chen et al. 2016, arXiv 1604.06174): none, all, or every second (every2), "
        "every third (every3) and so on. It changes no result. auto: as few as fit the memory.",
    )
    packing: Literal["auto", "bfd", "none"] = Field(
        "auto",
        description="Rows lie end to end in a forward pass instead of being padded, and do not see "
        "each other. bfd: best fit decreasing. auto: where it spares a tenth of the tokens that "
        "are computed, and the job's own rows give the same loss and gradient.",
    )
    regularization: Regularization = Regularization()
    early_stopping: Annotated[EarlyStopping | None, DecidedLater("trained to the end")] = Field(
        None, description="Default: every planned step is trained."
    )
    kl_to_base: Annotated[KlToBase | None, DecidedLater("no penalty")] = Field(
        None, description="A penalty on moving away from the base. Default: no penalty."
    )
    distillation: Annotated[Distillation | None, DecidedLater("no teacher")] = Field(
        None, description="Learn from a larger model as well. Default: from the rows alone."
    )
    adversarial: Annotated[Adversarial | None, DecidedLater("plain inputs")] = Field(
        None,
        description="Train on inputs that are moved to where the loss is highest. Default: on the "
        "rows as they are.",
    )
    fairness: Annotated[FairnessRemedy | None, DecidedLater("groups as they come")] = Field(
        None,
        description="Train so that groups of people are treated more alike. Default: groups count "
        "as they come.",
    )
    explanation: Annotated[ExplanationObjective | None, DecidedLater("answers alone")] = Field(
        None,
        description="Learn why as well, of people's reasons. Default: answers alone.",
    )
    forgetting_budget: Annotated[ForgettingBudget | None, DecidedLater("no bound")] = Field(
        None, description="Stop the run where it forgets too much. Default: no bound."
    )
    control: Annotated[Control | None, DecidedLater("no control run")] = Field(
        None,
        description="Train the first steps once more without the remedies that are on, and report "
        "what these change. Default: no such run; the outcome alone is reported.",
    )
    seed: Seed = 0

    @property
    def is_quantized(self) -> bool:
        """Whether the frozen weights are held in four bits."""
        return self.method == "lora" and self.lora.quantization == "nf4"

    @property
    def has_pairs(self) -> bool:
        """Whether two rows go through the model for each row of the data, or of most of it."""
        is_paired = self.fairness is not None and self.fairness.method == "pairedConsistency"
        is_told_why = self.explanation is not None and self.explanation.learns_rationales
        return self.objective == "dpo" or is_paired or is_told_why

    @property
    def compares_with_base(self) -> bool:
        """Whether KL(base || tuned) is computed on the way."""
        budget = self.forgetting_budget
        return self.kl_to_base is not None or (budget is not None and budget.max_kl is not None)

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

    # No field is in the key of a stage: keeping a run more often computes nothing else.
    every_steps: Annotated[Positive | None, DecidedLater("a tenth of all steps")] = Field(
        None, description="Default: a tenth of all steps."
    )
    keep: Annotated[int, Field(ge=1, le=100)] = 2
    asynchronous: Annotated[bool | None, DecidedLater("true where accelerators train")] = Field(
        None,
        description="true writes a checkpoint while training goes on, from a copy in the host's "
        "memory. Default: true where accelerators train; on processors the copy takes memory from "
        "training itself.",
    )


RULES: Final[tuple[Rule[Training], ...]] = (
    Rule(
        name="control-within-training",
        scopes=("training",),
        field="control.steps",
        holds=lambda training: (
            training.control is None
            or training.max_steps is None
            or training.control.steps <= training.max_steps
        ),
        cel="!has(self.control) || !has(self.maxSteps) || self.control.steps <= self.maxSteps",
        message="control.steps are the first of maxSteps; lower it",
    ),
    Rule(
        name="adapter-dropout-needs-adapters",
        scopes=("training",),
        field="lora.dropout",
        holds=lambda training: training.method == "lora" or training.lora.dropout == 0,
        cel="self.method == 'lora' || self.lora.dropout == 0.0",
        message="method: full has no adapters to drop from; leave lora.dropout out, or choose "
        "attentionDropout or embeddingDropout in training.regularization",
    ),
    Rule(
        name="quantization-needs-adapters",
        scopes=("training",),
        field="lora.quantization",
        holds=lambda training: training.method == "lora" or training.lora.quantization == "none",
        cel="self.method == 'lora' || self.lora.quantization == 'none'",
        message="method: full trains every weight, and four bits cannot be trained; leave "
        "lora.quantization out, or choose method: lora",
    ),
    Rule(
        name="shards-are-plain",
        scopes=("training",),
        field="parallelism",
        holds=lambda training: (
            training.parallelism != "fsdp"
            or (
                training.lora.quantization == "none"
                and not training.lora.use_dora
                and training.optimizer.type == "adamw"
            )
        ),
        cel="self.parallelism != 'fsdp' || (self.lora.quantization == 'none' && "
        "!self.lora.useDora && self.optimizer.type == 'adamw')",
        message="fsdp shards plain weights and moments; leave out lora.quantization, lora.useDora "
        "and optimizer.type, or choose parallelism: ddp",
    ),
    # FSDP sums gradients in hooks of the backward pass, which an ascent goes around.
    Rule(
        name="shards-without-ascent",
        scopes=("training",),
        field="parallelism",
        holds=lambda training: training.parallelism != "fsdp" or training.adversarial is None,
        cel="self.parallelism != 'fsdp' || !has(self.adversarial)",
        message="adversarial needs whole weights in every worker; leave it out, or choose "
        "parallelism: ddp",
    ),
    Rule(
        name="teachers-teach-answers",
        scopes=("training",),
        field="distillation",
        holds=lambda training: training.distillation is None or training.objective == "sft",
        cel="!has(self.distillation) || self.objective == 'sft'",
        message="a teacher says how likely an answer is, and dpo learns from pairs; leave "
        "distillation out, or choose objective: sft",
    ),
    Rule(
        name="whole-students-answer",
        scopes=("training",),
        field="distillation.onPolicy",
        holds=lambda training: (
            training.parallelism != "fsdp"
            or training.distillation is None
            or training.distillation.on_policy == 0.0
        ),
        cel="self.parallelism != 'fsdp' || !has(self.distillation) || "
        "self.distillation.onPolicy == 0.0",
        message="a student in shards cannot answer; leave onPolicy out, or choose parallelism: ddp",
    ),
    Rule(
        name="one-model-beside-the-trained",
        scopes=("training",),
        field="distillation",
        holds=lambda training: (
            training.distillation is None
            or (
                training.kl_to_base is None
                and training.adversarial is None
                and training.fairness is None
                and training.explanation is None
            )
        ),
        cel="!has(self.distillation) || (!has(self.klToBase) && !has(self.adversarial) && "
        "!has(self.fairness) && !has(self.explanation))",
        message="klToBase, adversarial, fairness and explanation change the loss, too, and were "
        "never tried beside a teacher; leave them out, or distillation",
    ),
    Rule(
        name="early-stopping-can-stop",
        scopes=("training",),
        field="earlyStopping.patience",
        holds=lambda training: (
            training.early_stopping is None
            or training.max_steps is None
            or training.evaluate_every_steps is None
            or training.early_stopping.patience * training.evaluate_every_steps < training.max_steps
        ),
        cel="!has(self.earlyStopping) || !has(self.maxSteps) || !has(self.evaluateEverySteps) || "
        "self.earlyStopping.patience * self.evaluateEverySteps < self.maxSteps",
        message="patience x evaluateEverySteps reaches maxSteps, so it could never stop; lower "
        "one of them",
    ),
    Rule(
        name="epochs-or-max-steps",
        scopes=("training",),
        field="maxSteps",
        holds=lambda training: training.epochs is None or training.max_steps is None,
        cel="!has(self.epochs) || !has(self.maxSteps)",
        message="epochs and maxSteps both say when training ends; give one of them",
    ),
)

SCHEDULE_RULES: Final[tuple[Rule[Schedule], ...]] = (
    Rule(
        name="warmup-and-decay-within-the-steps",
        scopes=("training.schedule",),
        field="decayRatio",
        holds=lambda schedule: (
            schedule.type != "wsd" or schedule.warmup_ratio + schedule.decay_ratio <= 1.0
        ),
        cel="self.type != 'wsd' || self.warmupRatio + self.decayRatio <= 1.0",
        message="warmupRatio and decayRatio are parts of the same steps, at most 1 together; "
        "lower one of them",
    ),
    Rule(
        name="cycles-of-a-decay",
        scopes=("training.schedule",),
        field="cycles",
        holds=lambda schedule: schedule.cycles == 1 or schedule.type != "constant",
        cel="self.cycles == 1 || self.type != 'constant'",
        message="a constant rate has no decay to repeat; choose cosine, linear or wsd, or leave "
        "cycles out",
    ),
)

BATCH_RULES: Final[tuple[Rule[Batch], ...]] = (
    Rule(
        name="micro-batch-within-batch",
        scopes=("training.batch",),
        field="microBatchSize",
        holds=lambda batch: batch.micro_batch_size is None or batch.micro_batch_size <= batch.size,
        cel="!has(self.microBatchSize) || self.microBatchSize <= self.size",
        message="microBatchSize is at most batch.size; lower it or raise size",
    ),
)
