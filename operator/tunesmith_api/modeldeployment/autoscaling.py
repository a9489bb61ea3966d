"""`spec.autoscaling`: replicas by what vLLM has to do, where KEDA is installed."""

from typing import Annotated, Any, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import Positive
from tunesmith_api.rules import Rule

Replicas = Annotated[int, Field(ge=1, le=1000)]


class Autoscaling(ApiModel):
    """How many replicas the stable version may have, and when another one is needed."""

    min_replicas: Replicas = Field(
        1,
        description="Never fewer. At least one: nothing holds back "
        "requests while the first replica of a model starts.",
    )
    max_replicas: Replicas
    queue_length: Annotated[int, Field(ge=1, le=10_000)] = Field(
        5, description="Requests that may wait in each replica before another one is started."
    )
    kv_cache_usage: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.8, description="Part of each replica's KV cache that may be used before another one is."
    )
    cooldown_seconds: Positive = Field(
        300, description="Seconds of less work before a replica is taken away."
    )
    fallback_replicas: Replicas | None = Field(
        None,
        description="Replicas while Prometheus does not answer. Default: as many as there are.",
    )


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="room-to-scale",
        scopes=("autoscaling",),
        field="maxReplicas",
        holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
        cel="self.minReplicas <= self.maxReplicas",
        message="maxReplicas is below minReplicas; raise it",
    ),
    Rule(
        name="fallback-within-bounds",
        scopes=("autoscaling",),
        field="fallbackReplicas",
        holds=lambda scaling: (
            scaling.fallback_replicas is None
            or scaling.min_replicas <= scaling.fallback_replicas <= scaling.max_replicas
        ),
        cel="!has(self.fallbackReplicas) || (self.minReplicas <= self.fallbackReplicas && "
        "self.fallbackReplicas <= self.maxReplicas)",
        message="fallbackReplicas has to lie between minReplicas and maxReplicas",
    ),
)
