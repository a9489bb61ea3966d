"""An OpenAI-compatible API: the one type for generators, teachers, judges and managed models."""

from typing import Annotated

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import SecretReference, ShortText

# Neither user nor query: both are where people put keys, which belong into a secret.
ENDPOINT_PATTERN = r"^https?://[^\x00-\x20\x7f@?#]+$"

EndpointUrl = Annotated[str, StringConstraints(pattern=ENDPOINT_PATTERN, max_length=1024)]
Price = Annotated[float, Field(ge=0.0, le=1_000_000.0)]


class TokenPrices(ApiModel):
    """What a million tokens cost, in any one currency."""

    input: Price
    output: Price


class Endpoint(ApiModel):
    """A model behind an OpenAI-compatible API: a provider's, or a server of your own."""

    url: EndpointUrl = Field(
        description="The base address, such as https://api.example.com/v1; what is asked is "
        "chat/completions below it."
    )
    model: ShortText = Field(description="The model's name there.")
    secret_ref: SecretReference | None = Field(
        None, description="A secret whose key `api-key` is sent as bearer token."
    )
    max_requests_per_minute: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None, DecidedLater("as fast as it answers")
    ] = Field(None, description="Default: as fast as it answers.")
    price_per_million_tokens: Annotated[TokenPrices | None, DecidedLater("not given")] = Field(
        None, description="What is asked there is then told in money as well as in tokens."
    )
