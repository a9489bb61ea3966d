"""The base of every resource type: how fields are named, and what is refused.

Everything in this package is a pydantic model derived from `ApiModel`. Python names are
snake_case, manifests are camelCase, unknown fields are refused, and instances never change after
they were read.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

GROUP = "tunesmith.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "tunesmith.dev/v1alpha1"


class ApiModel(BaseModel):
    """A frozen record whose manifest form is camelCase and closed to unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )
