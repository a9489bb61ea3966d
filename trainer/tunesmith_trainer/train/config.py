"""Every number of a training run, decided once from the spec and the size of the data.

`stage` and every `worker` resolve the same recipe; its digest ties checkpoints to it.
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import JsonValue

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Lora
from tunesmith_engine.stages.digests import digest_json

DEFAULT_EPOCHS = 3.0
DEFAULT_RATES = {"lora": 2e-4, "full": 2e-5}

# They decide how often the run is kept, not what it computes.
_OUTSIDE_THE_DIGEST = ("checkpoint_every", "keep")


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """The adapters: rank, scale of the update, dropout and the modules that get one."""

    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A run as it will be trained; steps are optimizer steps, batches are rows.

    `lora` is None for full fine-tuning. `batch_size` counts the rows of all workers together.
    """

    lora: LoraRecipe | None
    num_steps: int
    warmup_steps: int
    schedule: Literal["cosine", "linear", "constant"]
    learning_rate: float
    floor_ratio: float
    weight_decay: float
    beta1: float
    beta2: float
    max_grad_norm: float
    batch_size: int
    micro_batch_size: int
    workers: int
    precision: Literal["bf16", "fp32"]
    seed: int
    evaluate_every: int
    checkpoint_every: int
    keep: int

    @property
    def method(self) -> Literal["lora", "full"]:
        """How the model is trained, as the spec names it."""
        return "full" if self.lora is None else "lora"

    def digest(self) -> str:
        """Equal for two recipes exactly if one can go on from the other's checkpoints."""
        fields: dict[str, JsonValue] = {
            name: value for name, value in asdict(self).items() if name not in _OUTSIDE_THE_DIGEST
        }
        if self.lora is not None:
            fields["lora"] = {**asdict(self.lora), "target_modules": [*self.lora.target_modules]}
        return digest_json(fields)

    def as_text(self) -> dict[str, JsonValue]:
        """Every decided value as text, under the names of the spec."""
        decided: dict[str, object] = {
            "method": self.method,
            "maxSteps": self.num_steps,
            "warmupSteps": self.warmup_steps,
            "schedule": self.schedule,
            "learningRate": self.learning_rate,
            "minLearningRateRatio": self.floor_ratio,
            "weightDecay": self.weight_decay,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "maxGradNorm": self.max_grad_norm,
            "batchSize": self.batch_size,
            "microBatchSize": self.micro_batch_size,
            "workers": self.workers,
            "precision": self.precision,
            "seed": self.seed,
            "evaluateEverySteps": self.evaluate_every,
            "checkpointEverySteps": self.checkpoint_every,
        }
        return {name: str(value) for name, value in (decided | self._lora_as_text()).items()}

    def _lora_as_text(self) -> dict[str, object]:
        if self.lora is None:
            return {}
        return {
            "loraRank": self.lora.rank,
            "loraAlpha": self.lora.alpha,
            "loraDropout": self.lora.dropout,
            "loraTargetModules": ", ".join(self.lora.target_modules),
        }


def resolve_recipe(spec: FineTuneJobSpec, *, num_rows: int, has_bf16: bool) -> Recipe:
    """Decide what the spec leaves open.

    `num_rows` are the rows to train on; `has_bf16` says whether the processor computes bf16.
    """
    training = spec.training
    num_steps = _num_steps(spec, num_rows=num_rows)
    tenth = max(1, round(num_steps / 10))
    return Recipe(
        lora=_lora(training.lora) if training.method == "lora" else None,
        num_steps=num_steps,
        warmup_steps=math.ceil(training.schedule.warmup_ratio * num_steps),
        schedule=training.schedule.type,
        learning_rate=training.optimizer.learning_rate or DEFAULT_RATES[training.method],
        floor_ratio=training.schedule.min_learning_rate_ratio,
        weight_decay=training.optimizer.weight_decay,
        beta1=training.optimizer.beta1,
        beta2=training.optimizer.beta2,
        max_grad_norm=training.optimizer.max_grad_norm,
        batch_size=training.batch.size,
        micro_batch_size=training.batch.micro_batch_size,
        workers=spec.resources.workers,
        precision=_precision(training.precision, has_bf16=has_bf16),
        seed=training.seed,
        evaluate_every=training.evaluate_every_steps or tenth,
        checkpoint_every=spec.checkpoint.every_steps or tenth,
        keep=spec.checkpoint.keep,
    )


def _num_steps(spec: FineTuneJobSpec, *, num_rows: int) -> int:
    training = spec.training
    if training.max_steps is not None:
        return training.max_steps
    rows = (training.epochs or DEFAULT_EPOCHS) * num_rows
    return max(1, math.ceil(rows / training.batch.size))


def _lora(lora: Lora) -> LoraRecipe:
    return LoraRecipe(
        rank=lora.rank,
        alpha=lora.alpha if lora.alpha is not None else 2.0 * lora.rank,
        dropout=lora.dropout,
        target_modules=tuple(lora.target_modules),
    )


def _precision(
    asked: Literal["auto", "bf16", "fp32"], *, has_bf16: bool
) -> Literal["bf16", "fp32"]:
    if asked == "auto":
        return "bf16" if has_bf16 else "fp32"
    return asked
