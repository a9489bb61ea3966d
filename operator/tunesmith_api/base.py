"""The base of every resource type: how fields are named, and what is refused.

Everything in this package is a pydantic model derived from `ApiModel`. Python names are
snake_case, manifests are camelCase, unknown fields are refused, and instances never change after
they were read. A field that is null was not given, which is how the API server creates objects.
"""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator
from pydantic.alias_generators import to_camel

JsonMapping = dict[str, JsonValue]

GROUP = "tunesmith.dev"
VERSION = "v1alpha1"
# Written out, for the type of `apiVersion` is this very text, and a type cannot be put together.
API_VERSION: Final = "tunesmith.dev/v1alpha1"


class ApiModel(BaseModel):
    """A frozen record whose manifest form is camelCase and closed to unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        # A misspelt field that is passed over trains another model than was asked for.
        extra="forbid",
        # Plans and statuses are compared and shared; a change makes a copy.
        frozen=True,
        # JSON has neither, so no server could hold them.
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def without_nulls(cls, given: Any) -> Any:
        """Take a field that is null for one that was not given, so that its default holds.

        Only fields of ours: a null under a key of a mapping has no default to take its place. NB:
        the server does so on creation; a null that is applied it refuses.
        """
        if not isinstance(given, dict) or None not in given.values():
            return given
        known = {*cls.model_fields, *(field.alias for field in cls.model_fields.values())}
        return {key: value for key, value in given.items() if value is not None or key not in known}
