"""`spec.model`: the base model."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import SecretReference, ShortText
from tunesmith_api.rules import Rule
from tunesmith_api.uris import SourceUri


class ModelSource(ApiModel):
    """The base model: safetensors or GGUF weights with their tokenizer."""

    uri: SourceUri = Field(
        description="Where the model lies: a folder of safetensors, or one .gguf file."
    )
    revision: Annotated[
        ShortText | None,
        DecidedLater("the hub's main branch", applies=lambda model: model.uri.startswith("hf://")),
    ] = Field(
        None, description="Branch, tag or commit of an hf:// model. Default: the hub's main branch."
    )
    chat_template: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=65536)] | None,
        DecidedLater("the model's own"),
    ] = Field(None, description="A Jinja chat template that replaces the model's own.")
    secret_ref: SecretReference | None = Field(None, description="Credentials to read the model.")


RULES: Final[tuple[Rule[ModelSource], ...]] = (
    Rule(
        name="revision-of-the-hub",
        scopes=(
            "model",
            "dataset.synthesis.generator.model",
            "training.distillation.teacher.model",
            "evaluation.fairness.suites.*.classifier.model",
        ),
        field="revision",
        holds=lambda model: model.revision is None or model.uri.startswith("hf://"),
        cel="!has(self.revision) || self.uri.startsWith('hf://')",
        message="only hf:// models have a revision; leave it out, or put it into the uri's path",
    ),
)
