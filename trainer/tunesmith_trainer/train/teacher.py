"""What a job with `training.distillation` minimises, and how far it is from its teacher."""

from typing import Any

import torch

from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import local_path
from tunesmith_trainer.data.prepared import TEACHER
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.adapters import build_frozen
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.objectives.distillation import (
    Distillation,
    TeacherDivergence,
    TeacherLogits,
)
from tunesmith_trainer.train.objectives.on_policy import OnPolicyDistillation
from tunesmith_trainer.train.packing import LayOut


def teacher_of(request: StageRequest, config: TrainConfig, *, device: torch.device) -> Any | None:
    """The teacher that `prepare` left, frozen; None where the job has none. All workers call it."""
    if config.training.distillation is None:
        return None
    folder = local_path(request.inputs[PREPARE.name].artifact(TEACHER))
    return build_frozen(folder, config=config, device=device)


def with_teacher(
    teacher: Any, rows: TokenRows, *, config: TrainConfig, device: torch.device, lay_out: LayOut
) -> Distillation:
    """Cross-entropy and the divergence from `teacher`, weighed as the job says."""
    training, settings = config.training, config.training.distillation
    if settings is None:
        raise ValueError("there is no teacher without spec.training.distillation")
    parts: dict[str, Any] = {
        "knowledge": TeacherLogits(
            teacher, objective=settings.objective, temperature=settings.temperature
        ),
        "cross_entropy_weight": 1.0 - settings.weight,
        "device": device,
        "lay_out": lay_out,
        "regularization": training.regularization,
    }
    if settings.on_policy:
        return OnPolicyDistillation(rows, fraction=settings.on_policy, **parts)
    return Distillation(rows, **parts)


def from_teacher(
    teacher: Any, rows: TokenRows, *, device: torch.device, lay_out: LayOut
) -> TeacherDivergence:
    """KL(teacher || student) over `rows`, a measure whatever is minimised."""
    return TeacherDivergence(rows, knowledge=TeacherLogits(teacher), device=device, lay_out=lay_out)
