"""The part of Kubernetes metadata that manifests of our kinds may carry."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import DnsLabel, LabelKey, LabelValue

Namespace = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
]


# What an API server writes into metadata; a manifest read back from one may carry it. The rest is
# closed as everything else: a misspelt `lables` is refused.
SERVER_FIELDS = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
)


class Metadata(ApiModel):
    """What both kinds' metadata have; the fields that only a server needs are passed over."""

    namespace: Namespace | None = None
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    annotations: dict[LabelKey, str] = Field(default_factory=dict)
    generation: int | None = None
    uid: str | None = None

    @model_validator(mode="before")
    @classmethod
    def without_server_fields(cls, given: Any) -> Any:
        """Pass over what a server has written."""
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if key not in SERVER_FIELDS}


class ObjectMeta(Metadata):
    """The part of Kubernetes metadata that a manifest on disk may carry."""

    name: DnsLabel
