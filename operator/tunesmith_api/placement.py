"""Which nodes the pods of a resource may run on: the part of `resources` that all kinds share."""

from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import ClusterOnly, DecidedLater
from tunesmith_api.field_types import ExtendedResource, LabelKey, LabelValue, ObjectName
from tunesmith_api.rules import Rule


class Toleration(ApiModel):
    """A taint of nodes that the pods put up with, as in a pod's own tolerations."""

    key: LabelKey | None = Field(None, description="Key of the taint. Default: every key.")
    operator: Literal["Exists", "Equal"] = Field(
        "Equal", description="Equal: the taint has this value. Exists: whatever its value."
    )
    value: LabelValue | None = Field(None, description="Value of the taint. Default: empty.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. Default: every effect."
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = Field(
        None,
        description="Seconds that a running pod stays after a NoExecute taint. Default: for ever.",
    )


class PullSecret(ApiModel):
    """The name of a secret, in the same namespace, with which images are pulled."""

    name: ObjectName


class Placement(ApiModel):
    """What nodes must have, and what of theirs the pods put up with."""

    accelerator: Annotated[ExtendedResource, ClusterOnly()] = Field(
        "nvidia.com/gpu",
        description="Name under which nodes offer accelerators: nvidia.com/gpu, amd.com/gpu, "
        "google.com/tpu, a MIG profile. The images must have a torch for it.",
    )
    node_selector: Annotated[dict[LabelKey, LabelValue], ClusterOnly()] = Field(
        default_factory=dict,
        max_length=20,
        description="Labels that a node must have to run the pods.",
    )
    tolerations: Annotated[list[Toleration], Field(max_length=20), ClusterOnly()] = Field(
        default_factory=list, description="Taints that do not keep the pods from a node."
    )
    priority_class_name: Annotated[
        ObjectName | None,
        DecidedLater("the cluster's"),
        ClusterOnly(),
    ] = Field(None, description="PriorityClass of the pods. Default: the cluster's.")
    image_pull_secrets: Annotated[list[PullSecret], Field(max_length=10), ClusterOnly()] = Field(
        default_factory=list, description="Secrets with which the images are pulled."
    )


# In every kind the placement is part of `resources`.
TOLERATION_RULES: Final[tuple[Rule[Toleration], ...]] = (
    Rule(
        name="toleration-of-any-value",
        scopes=("resources.tolerations.*",),
        field="value",
        holds=lambda toleration: toleration.operator == "Equal" or toleration.value is None,
        cel="self.operator == 'Equal' || !has(self.value)",
        message="operator Exists tolerates every value; leave value out, or set operator: Equal",
    ),
    Rule(
        name="toleration-of-any-key",
        scopes=("resources.tolerations.*",),
        field="operator",
        holds=lambda toleration: toleration.key is not None or toleration.operator == "Exists",
        cel="has(self.key) || self.operator == 'Exists'",
        message="without a key every taint is tolerated; name the key, or set operator: Exists",
    ),
    Rule(
        name="toleration-for-a-time",
        scopes=("resources.tolerations.*",),
        field="tolerationSeconds",
        holds=lambda toleration: (
            toleration.toleration_seconds is None or toleration.effect == "NoExecute"
        ),
        cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        message="only NoExecute evicts after a time; leave tolerationSeconds out, or set effect",
    ),
)
