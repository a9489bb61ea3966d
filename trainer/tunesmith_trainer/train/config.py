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

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Checkpoint, Training
from tunesmith_engine.stages.digests import digest_json

# Fields of `training` that do not change what a run computes beyond what was decided of them
# (num_steps, warmup_steps, precision, evaluate_every), or that only prepare reads.
# NB: every other field is in the digest, those that are added later included, so that a checkpoint
# is rather passed over than continued with another setting.
_OUTSIDE_THE_DIGEST: Final[dict[str, Any]] = {
    "epochs": True,
    "max_steps": True,
    "sequence_length": True,
    "precision": True,
    "evaluate_every_steps": True,
    "schedule": {"warmup_ratio"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A run as it will be trained.

    Attributes:
        training: `spec.training` with every default filled in; its batch sizes count rows, and
            `batch.size` those of all workers together.
        checkpoint: `spec.checkpoint`.
        workers: how many share the rows of a step.
        precision: the type that autocast computes in.
        num_steps: optimizer steps of the whole run.
        warmup_steps: of these, how many the learning rate rises for.
        evaluate_every: steps between measurements of the held-out loss.
        checkpoint_every: steps between checkpoints.
    """

    training: Training
    checkpoint: Checkpoint
    workers: int
    precision: Literal["bf16", "fp32"]
    num_steps: int
    warmup_steps: int
    evaluate_every: int
    checkpoint_every: int

    def digest(self) -> str:
        """Equal for two configurations exactly if one can go on from the other's checkpoints.

        How often checkpoints are written, and how many are kept, is left out of it.
        """
        outside = dict(_OUTSIDE_THE_DIGEST)
        if self.training.method == "full":
            outside["lora"] = True
        decided: dict[str, JsonValue] = {
            "workers": self.workers,
            "precision": self.precision,
            "numSteps": self.num_steps,
            "warmupSteps": self.warmup_steps,
            "evaluateEvery": self.evaluate_every,
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
            "evaluateEverySteps": self.evaluate_every,
        }
        fields: dict[str, JsonValue] = {
            "training": {**training, **decided},
            "checkpoint": {"everySteps": self.checkpoint_every},
            "resources": {"workers": self.workers},
        }
        return dict(_leaves(fields))


def resolve_config(spec: FineTuneJobSpec, *, num_rows: int, has_bf16: bool) -> TrainConfig:
    """Decide what the spec leaves open; the planner has filled in its defaults.

    `num_rows` are the rows to train on; `has_bf16` says whether the processor computes bf16.
    """
    training = spec.training
    num_steps = training.max_steps
    if num_steps is None:
        # The planner has filled it in: there are no max_steps. A last batch that the epochs do not
        # fill is filled up from the next one, so that every step has the same number of rows.
        rows = cast("float", training.epochs) * num_rows
        num_steps = max(1, math.ceil(rows / training.batch.size))
    tenth = max(1, round(num_steps / 10))
    precision = training.precision
    if precision == "auto":
        precision = "bf16" if has_bf16 else "fp32"
    return TrainConfig(
        training=training,
        checkpoint=spec.checkpoint,
        workers=spec.resources.workers,
        precision=precision,
        num_steps=num_steps,
        warmup_steps=math.ceil(training.schedule.warmup_ratio * num_steps),
        evaluate_every=training.evaluate_every_steps or tenth,
        checkpoint_every=spec.checkpoint.every_steps or tenth,
    )


def _leaves(fields: Mapping[str, JsonValue], *, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of every value that is given; numbers and lists as in JSON, as `plan` does."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _leaves(value, prefix=f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
