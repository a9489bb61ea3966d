"""`spec.model`: the base model."""

from typing import Annotated

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.uris import SourceUri
from tunesmith_api.values import (
    SecretReference,
    ShortText,
)


class ModelSource(ApiModel):
    """The base model: safetensors or GGUF weights with their tokenizer."""

    uri: SourceUri = Field(
        description="Where the model lies: a folder of safetensors, or one .gguf file."
    )
    revision: ShortText | None = Field(
        None, description="Branch, tag or commit of an hf:// model. Default: the hub's main branch."
    )
    chat_template: Annotated[str, StringConstraints(min_length=1, max_length=65536)] | None = Field(
        None, description="A Jinja chat template that replaces the model's own."
    )
    secret_ref: SecretReference | None = Field(None, description="Credentials to read the model.")
