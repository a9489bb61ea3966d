"""The configuration of a run: the spec's own parts, and what only data and machine can decide.

`worker` resolves it from its request, the same on every worker. The loop and its parts read
`training` as the manifest has it, with the planner's defaults filled in: the optimizer is built
from `training.optimizer`, the adapters from `training.lora`. The digest ties checkpoints to a run.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from pydantic import JsonValue

from tunesmith_api.finetunejob.adversarial import Adversarial
from tunesmith_api.finetunejob.explanation_objective import ExplanationObjective
from tunesmith_api.finetunejob.fairness_remedy import FairnessRemedy
from tunesmith_api.finetunejob.gradient_checkpointing import GradientCheckpointing
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Batch, Checkpoint, Training
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.digests import digest_json
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.training_memory import (
    checkpointed,
    rows_per_pass,
    writes_asynchronously,
)

# Fields of `training` that do not change what a run computes beyond what was decided of them
# (num_steps, warmup_steps, precision, packing, evaluate_every), or that only prepare reads.
# NB: every other field is in the digest, those that are added later included, so that a checkpoint
# is rather passed over than continued with another setting.
_OUTSIDE_THE_DIGEST: Final[dict[str, Any]] = {
    "epochs": True,
    "max_steps": True,
    "sequence_length": True,
    "precision": True,
    "packing": True,
    "evaluate_every_steps": True,
    # It only ends a run, and one whose budget is raised goes on.
    "forgetting_budget": True,
    "schedule": {"warmup_ratio"},
    # Computed again, activations are what they were.
    "gradient_checkpointing": True,
    "batch": {"micro_batch_size"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A run as it will be trained.

    Attributes:
        training: `spec.training` with every default filled in; its batch sizes count rows, and
            `batch.size` those of all workers together, however many there are.
        checkpoint: `spec.checkpoint`.
        workers: how many share the rows of a step.
        precision: the type that autocast computes in.
        micro_batch_size: rows of a forward pass.
        gradient_checkpointing: which layers compute their activations again; never `auto`.
        packing: whether rows lie end to end in a forward pass.
        replay_ratio: part of the rows of a step that are replay rows; 0 without replay.
        num_steps: optimizer steps of the whole run.
        warmup_steps: of these, how many the learning rate rises for, in every cycle.
        evaluate_every: steps between measurements of the held-out loss.
        checkpoint_every: steps between checkpoints.
        asynchronous_checkpoints: whether they are written while training goes on.
        attack: what a sample of the held-out rows is measured under; of a control that of its run.
        compared_groups: whose terms the held-out rows are compared with; likewise.
        measured_reasons: what is learnt of people's reasons, and so looked at; likewise.
    """

    training: Training
    checkpoint: Checkpoint
    workers: int
    min_workers: int | None
    precision: Literal["bf16", "fp32"]
    micro_batch_size: int
    gradient_checkpointing: GradientCheckpointing
    packing: Literal["bfd", "none"]
    replay_ratio: float
    num_steps: int
    warmup_steps: int
    evaluate_every: int
    checkpoint_every: int
    asynchronous_checkpoints: bool
    attack: Adversarial | None
    compared_groups: FairnessRemedy | None = None
    measured_reasons: ExplanationObjective | None = None

    @property
    def is_sharded(self) -> bool:
        """Whether the model is spread over the workers; one alone holds all of it."""
        return self.training.parallelism == "fsdp" and self.workers > 1

    @property
    def total_steps(self) -> int:
        """Steps of the run, and of the control beside it."""
        control = self.training.control
        return self.num_steps + (control.steps if control else 0)

    def is_evaluated(self, step: int) -> bool:
        """Whether every loss is measured after `step`: the last one, that of the control, more."""
        control = self.training.control
        last = {self.num_steps, control.steps if control else self.num_steps}
        return step in last or step % self.evaluate_every == 0

    def digest(self) -> str:
        """Equal for two configurations exactly if one can go on from the other's checkpoints.

        How often checkpoints are written, and how many are kept, is left out of it.
        """
        outside = dict(_OUTSIDE_THE_DIGEST)
        if self.training.method == "full":
            outside["lora"] = True
        decided: dict[str, JsonValue] = {
            # Of an elastic run one number of workers goes on where another one stopped.
            "workers": [self.min_workers, self.workers] if self.min_workers else self.workers,
            "precision": self.precision,
            "microBatchSize": self.micro_batch_size,
            "packing": self.packing,
            "numSteps": self.num_steps,
            "warmupSteps": self.warmup_steps,
            "evaluateEvery": self.evaluate_every,
            "replayRatio": self.replay_ratio,
            # Its points are in the history of every checkpoint, or of none.
            "measuresKl": self.training.compares_with_base,
            "measuresAttack": self.attack is not None,
            # Only where it is, so that checkpoints of runs before there was any go on.
            **({"measuresGap": True} if self.compared_groups else {}),
            **({"measuresReasons": self.measured_reasons.method} if self.measured_reasons else {}),
        }
        given = self.training.model_dump(mode="json", by_alias=True, exclude=outside)
        return digest_json({"training": given, **decided})

    def resolved(self) -> dict[str, str]:
        """What the run uses, as text, by the path of the field below `spec`."""
        unused = {
            name
            for name, is_unused in (
                ("lora", self.training.method == "full"),
                ("dpo", self.training.objective == "sft"),
            )
            if is_unused
        }
        training = self.training.model_dump(mode="json", by_alias=True, exclude=unused)
        decided = {
            "maxSteps": self.num_steps,
            "precision": self.precision,
            "gradientCheckpointing": self.gradient_checkpointing,
            "packing": self.packing,
            "evaluateEverySteps": self.evaluate_every,
            "batch": {**training["batch"], "microBatchSize": self.micro_batch_size},
        }
        fields: dict[str, JsonValue] = {
            "training": {**training, **decided},
            "checkpoint": {
                "everySteps": self.checkpoint_every,
                "asynchronous": self.asynchronous_checkpoints,
            },
            "resources": {"workers": self.workers, "minWorkers": self.min_workers},
        }
        return dict(_leaves(fields))


# Measuring takes at most this part of the time that training takes, but is done twice at least.
_EVALUATION_SHARE = 0.5


def resolve_config(
    spec: FineTuneJobSpec,
    *,
    num_rows: int,
    precision: Literal["bf16", "fp32"],
    evaluation_cost: float,
) -> TrainConfig:
    """Decide what the spec leaves open; the planner has filled in its defaults.

    What depends on the memory was settled by the stage, or is what it is where nothing is known of
    it. `num_rows` are the job's own rows, which `epochs` counts; `precision` is what `auto` means
    on this machine; `evaluation_cost` how many steps take as long as measuring every loss once.

    Raises:
        BadInputError: there are more cycles than steps.
    """
    training = spec.training
    ratio = spec.dataset.replay.ratio if spec.dataset.replay else 0.0
    num_steps = training.max_steps
    if num_steps is None:
        # The planner has filled it in: there are no max_steps. A last batch that the epochs do not
        # fill is filled up from the next one, so that every step has the same number of rows.
        rows = cast("float", training.epochs) * num_rows
        num_steps = max(1, math.ceil(rows / (training.batch.size * (1.0 - ratio))))
    cycles = training.schedule.cycles
    if cycles > num_steps:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.schedule.cycles: {cycles} cycles in {num_steps} steps; give at most one for "
            "each step",
        )
    tenth = max(1, round(num_steps / 10))
    return TrainConfig(
        training=training,
        checkpoint=spec.checkpoint,
        workers=spec.resources.workers,
        min_workers=spec.resources.min_workers,
        precision=precision if training.precision == "auto" else training.precision,
        micro_batch_size=rows_per_pass(spec),
        gradient_checkpointing=checkpointed(training),
        # Until `packing_choice` has tried it on the job's rows.
        packing="bfd" if training.packing == "bfd" else "none",
        replay_ratio=ratio,
        num_steps=num_steps,
        warmup_steps=math.ceil(training.schedule.warmup_ratio * (num_steps // cycles)),
        evaluate_every=training.evaluate_every_steps
        or max(
            tenth, min(math.ceil(evaluation_cost / _EVALUATION_SHARE), math.ceil(num_steps / 2))
        ),
        checkpoint_every=spec.checkpoint.every_steps or tenth,
        asynchronous_checkpoints=writes_asynchronously(spec),
        attack=training.adversarial,
        compared_groups=training.fairness,
        measured_reasons=training.explanation,
    )


def refuse_large_batch(num_rows: int, *, batch: Batch) -> None:
    """Return if the training rows fill a batch.

    Raises:
        BadInputError: they do not: a step would take some of them twice.
    """
    if batch.size > num_rows:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.batch.size: a batch of {batch.size} rows is larger than the {num_rows} rows "
            f"there are to train on; give at most {num_rows}, or more data",
        )


def _leaves(fields: Mapping[str, JsonValue], *, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of every value that is given; numbers and lists as in JSON, as `plan` does."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _leaves(value, prefix=f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
