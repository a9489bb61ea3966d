"""`spec.training.distillation`: a larger model teaches the one that is trained."""

from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.rules import Rule


class Teacher(ApiModel):
    """A model whose tokenizer is that of the model that is trained."""

    model: ModelSource = Field(
        description="Where the teacher lies. Its chat template is not asked: it reads the tokens "
        "that the student reads."
    )


class Distillation(ApiModel):
    """A part of the loss is the divergence from a teacher at every target of the training rows."""

    teacher: Teacher
    objective: Literal["forwardKl", "reverseKl", "jensenShannon"] = Field(
        "forwardKl",
        description="forwardKl: KL(teacher || student). reverseKl: KL(student || teacher). "
        "jensenShannon: the mean of both to their mixture.",
    )
    weight: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.5, description="Part of the loss that is the divergence; the rest is cross-entropy."
    )
    on_policy: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0,
        description="Part of the passes in which the student answers the prompts itself and the "
        "teacher judges that (Agarwal et al. 2024, arXiv 2306.13649). Each takes as long as "
        "generating the answers one by one.",
    )
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = Field(
        1.0, description="Both models' logits are divided by it (Hinton et al. 2015)."
    )


RULES: Final[tuple[Rule[Teacher], ...]] = (
    Rule(
        name="teacher-has-no-template",
        scopes=("training.distillation.teacher",),
        field="model.chatTemplate",
        holds=lambda teacher: teacher.model.chat_template is None,
        cel="!has(self.model.chatTemplate)",
        message="a teacher reads the tokens that the student reads; leave chatTemplate out",
    ),
)
