"""`spec.compression.prune`: a smaller model, and how what that cost is won back by distillation.

A draft (`spec.serving.speculative.draft`) is such a model, too, beside the tuned one.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import PlannedDefault
from tunesmith_api.field_types import Positive
from tunesmith_api.rules import Rule

Axis = Literal["layers", "channels", "heads", "vocabulary"]
_DEFAULT_AXES: Final[tuple[Axis, ...]] = ("layers",)
Divergence = Literal["forwardKl", "reverseKl", "jensenShannon", "crossEntropy"]

# As the report and the model card say it.
CACHED_TOKENS: Final[Mapping[str, str]] = {
    "sampled": ", by tokens that it drew",
    "topK": ", by its most probable tokens",
}

DEFAULT_RATIO: Final = 0.2
DEFAULT_RECOVERY_EPOCHS: Final = 3.0
# Of AdamW, by method. A pruned model is far from where it was and moves more than a tuned one:
# Shortened LLaMA (Kim et al. 2024, arXiv 2402.02834) and Minitron (arXiv 2407.14679) take 1e-4.
DEFAULT_RECOVERY_RATES: Final[Mapping[str, float]] = {"full": 1e-4, "lora": 5e-4}


class Recovery(ApiModel):
    """Distillation from the unpruned tuned model on the job's own training rows.

    Batch, schedule, optimizer, precision and packing are those of `spec.training`.
    """

    objective: Divergence = Field(
        "forwardKl",
        description="What is minimised at each target. forwardKl: KL(teacher || student). "
        "reverseKl: KL(student || teacher). jensenShannon: the mean of both to their mixture. "
        "crossEntropy: the rows' answers alone, without a teacher.",
    )
    logits: Literal["full", "sampled", "topK"] = Field(
        "full",
        description="full: the teacher beside the student in every step. sampled: tokens that it "
        "draws are cached once, an unbiased estimate of forwardKl (Random Sampling KD, Anshumann "
        "et al. 2025, arXiv 2503.16870); it takes no memory beside the student then. topK: its "
        "most probable tokens are cached, as if there were no others: a teacher too sure of "
        "itself.",
    )
    samples: Annotated[int, Field(ge=1, le=1024)] = Field(
        12, description="Cached tokens of each target, for logits: sampled or topK."
    )
    cross_entropy_weight: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="Part of the loss that is cross-entropy with the rows' own answers."
    )
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = Field(
        1.0, description="Both models' logits are divided by it (Hinton et al. 2015)."
    )
    method: Literal["full", "lora"] = Field(
        "full",
        description="full: every weight of the pruned model. lora: adapters as spec.training.lora "
        "has them, for models that full does not fit; wins back less.",
    )
    learning_rate: Annotated[Annotated[float, Field(gt=0.0, le=1.0)] | None, PlannedDefault()] = (
        Field(None, description="Peak learning rate. Default: 1e-4 for full, 5e-4 for lora.")
    )
    epochs: Annotated[Annotated[float, Field(gt=0.0, le=1000.0)] | None, PlannedDefault()] = Field(
        None,
        description=f"Passes over the training rows. Default {DEFAULT_RECOVERY_EPOCHS:g}; not with "
        "`maxSteps`.",
    )
    max_steps: Positive | None = Field(None, description="Optimizer steps; not with `epochs`.")

    @property
    def has_teacher(self) -> bool:
        """Whether the tuned model is asked anything."""
        return self.objective != "crossEntropy"

    @property
    def is_beside_teacher(self) -> bool:
        """Whether the tuned model is in memory while the pruned one is trained."""
        return self.has_teacher and self.logits == "full"

    def with_defaults(self) -> Self:
        """With the learning rate and, where nothing says when to stop, epochs filled in."""
        update: dict[str, object] = {}
        if self.learning_rate is None:
            update["learning_rate"] = DEFAULT_RECOVERY_RATES[self.method]
        if self.epochs is None and self.max_steps is None:
            update["epochs"] = DEFAULT_RECOVERY_EPOCHS
        return self.model_copy(update=update)


class PruneGate(ApiModel):
    """How much of the tuned model's quality the recovered one must have."""

    min_recovery: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.9,
        description="The tuned model's held-out loss divided by the recovered model's, at least.",
    )
    max_kl: Annotated[float, Field(gt=0.0, le=100.0)] | None = Field(
        None,
        description="KL(tuned || recovered) in nats per target token of the held-out rows, at "
        "most. Default: told, not judged.",
    )
    fallback: Literal["unpruned", "fail"] = Field(
        "unpruned",
        description="After a failed gate: go on with the tuned model as it is, or fail the job.",
    )


class Student(ApiModel):
    """Parts of the tuned model are taken away, and the rest is trained to answer as the whole did.

    What remains is an ordinary, smaller model of the same architecture.
    """

    default_ratio: ClassVar[float] = DEFAULT_RATIO

    axes: Annotated[list[Axis], Field(min_length=1, max_length=4)] = Field(
        default_factory=lambda: [*_DEFAULT_AXES],
        description="What is taken away. layers: whole layers. channels: of each feed-forward "
        "network. heads: keys and values with the queries that share them. vocabulary: tokens that "
        "are in no row of the job and in no text of its evaluation, whatever `ratio` is.",
    )
    ratio: Annotated[
        Annotated[float, Field(gt=0.0, lt=1.0)] | None,
        PlannedDefault(),
    ] = Field(
        None,
        description=f"Part of each axis that goes. Default {DEFAULT_RATIO:g}; not with "
        "`maxParameters`.",
    )
    max_parameters: Annotated[int, Field(ge=1, le=10_000_000_000_000)] | None = Field(
        None,
        description="The smallest cut that leaves no more parameters than this; not with `ratio`.",
    )
    importance: Literal["blockInfluence", "loss"] = Field(
        "blockInfluence",
        description="Which layers go. blockInfluence: those that turn their input least (ShortGPT, "
        "Men et al. 2024, arXiv 2403.03853). loss: those without which the loss rises least, one "
        "pass over the calibration rows for each (Shortened LLaMA, arXiv 2402.02834). Channels "
        "and heads go by the size of what they add (as in Minitron, arXiv 2407.14679).",
    )
    multiple_of: Literal[32, 64, 128] = Field(
        32,
        description="Channels are left in multiples of this, which kernels want; where groupSize "
        "of W4A16 is larger, of that.",
    )
    calibration_rows: Annotated[int, Field(ge=1, le=4096)] = Field(
        64, description="Training rows by which importance is judged."
    )
    recovery: Recovery = Recovery()

    @property
    def is_of_shape(self) -> bool:
        """Whether more goes than tokens."""
        return any(axis != "vocabulary" for axis in self.axes)

    def with_defaults(self) -> Self:
        """With the ratio and what recovery leaves open filled in."""
        update: dict[str, object] = {"recovery": self.recovery.with_defaults()}
        if self.ratio is None and self.max_parameters is None and self.is_of_shape:
            update["ratio"] = self.default_ratio
        return self.model_copy(update=update)


class Prune(Student):
    """Take parts of the tuned model away and train the rest to answer as the whole did.

    What remains is an ordinary, smaller model of the same architecture.
    """

    gate: PruneGate = PruneGate()


# Where the spec has students, and what teaches them.
_STUDENTS: Final = ("compression.prune", "serving.speculative.draft")
_RECOVERIES: Final = tuple(f"{path}.recovery" for path in _STUDENTS)

RULES: Final[tuple[Rule[Student], ...]] = (
    Rule(
        name="ratio-or-max-parameters",
        scopes=_STUDENTS,
        field="maxParameters",
        holds=lambda prune: prune.ratio is None or prune.max_parameters is None,
        cel="!has(self.ratio) || !has(self.maxParameters)",
        message="ratio and maxParameters both say how much goes; give one of them",
    ),
    Rule(
        name="tokens-go-by-no-ratio",
        scopes=_STUDENTS,
        field="axes",
        holds=lambda prune: (
            prune.is_of_shape or (prune.ratio is None and prune.max_parameters is None)
        ),
        cel="self.axes.exists(axis, axis != 'vocabulary') || "
        "(!has(self.ratio) && !has(self.maxParameters))",
        message="the rows say which tokens go; leave ratio and maxParameters out, or name another "
        "axis as well",
    ),
    Rule(
        name="axes-once",
        scopes=_STUDENTS,
        field="axes",
        holds=lambda prune: len(set(prune.axes)) == len(prune.axes),
        cel="self.axes.all(axis, self.axes.filter(other, other == axis).size() == 1)",
        message="an axis stands there twice; name each once",
    ),
)

RECOVERY_RULES: Final[tuple[Rule[Recovery], ...]] = (
    Rule(
        name="recovery-epochs-or-max-steps",
        scopes=_RECOVERIES,
        field="maxSteps",
        holds=lambda recovery: recovery.epochs is None or recovery.max_steps is None,
        cel="!has(self.epochs) || !has(self.maxSteps)",
        message="epochs and maxSteps both say when recovery ends; give one of them",
    ),
    Rule(
        name="cached-logits-give-forward-kl",
        scopes=_RECOVERIES,
        field="logits",
        holds=lambda recovery: recovery.logits == "full" or recovery.objective == "forwardKl",
        cel="self.logits == 'full' || self.objective == 'forwardKl'",
        message="cached tokens give forwardKl alone; choose that objective, or logits: full",
    ),
    Rule(
        name="answers-have-no-teacher",
        scopes=_RECOVERIES,
        field="objective",
        holds=lambda recovery: (
            recovery.has_teacher
            or (recovery.cross_entropy_weight == 0.0 and recovery.temperature == 1.0)
        ),
        cel="self.objective != 'crossEntropy' || "
        "(self.crossEntropyWeight == 0.0 && self.temperature == 1.0)",
        message="crossEntropy asks no teacher; leave crossEntropyWeight and temperature out, or "
        "choose forwardKl",
    ),
)
