"""`ModelDeployment.spec`: which model is served, on what, by whom it is reached, how it changes.

Each part with rules of its own has a module named after its path. `None` as a default means that
the version, the proxy or the machine decides; a mark says so.
"""

from typing import Annotated, Any, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import ClusterOnly, DecidedLater
from tunesmith_api.field_types import (
    Bytes,
    DnsLabel,
    ObjectName,
    Positive,
    Processors,
    SecretReference,
    VersionLabel,
)
from tunesmith_api.modeldeployment import autoscaling, monitoring, rollout, slo
from tunesmith_api.modeldeployment.adapters import Adapters
from tunesmith_api.modeldeployment.autoscaling import Autoscaling
from tunesmith_api.modeldeployment.engine import Engine
from tunesmith_api.modeldeployment.limits import Metric
from tunesmith_api.modeldeployment.monitoring import Monitoring
from tunesmith_api.modeldeployment.rollout import Rollout
from tunesmith_api.modeldeployment.slo import ServiceLevelObjectives
from tunesmith_api.modeldeployment.verification import Verification
from tunesmith_api.placement import TOLERATION_RULES, Placement
from tunesmith_api.rules import Rule


class ServingResources(Placement):
    """What each replica runs on."""

    gpus_per_replica: Annotated[int, Field(ge=0, le=16)] = Field(
        0,
        description="Accelerators of each replica; vLLM spreads the model over all of them.",
    )
    cpu: Annotated[Processors | None, DecidedLater("1"), ClusterOnly()] = Field(
        None, description='Processors of each replica: 4 or 500m, in quotes. Default: "1".'
    )
    memory: Annotated[
        Bytes | None, DecidedLater("twice the files of the version, and 3Gi"), ClusterOnly()
    ] = Field(
        None,
        description="Memory of each replica: 16Gi. Less than the version's files need is refused. "
        "Default: twice the files of the version, and 3Gi.",
    )


class Storage(ApiModel):
    """How the replicas get at the files of a version."""

    claim_name: Annotated[
        ObjectName | None, DecidedLater("the volume of the job that made the version")
    ] = Field(
        None,
        description="PersistentVolumeClaim that holds versions published as file://. Default: the "
        "volume of the job that made the version.",
    )
    secret_ref: SecretReference | None = Field(
        None, description="Credentials to read versions in an object store."
    )


class Gateway(ApiModel):
    """The Gateway, of the Gateway API, that traffic comes through."""

    name: ObjectName
    namespace: Annotated[DnsLabel | None, DecidedLater("the deployment's own")] = Field(
        None, description="Default: the namespace of the deployment."
    )
    section_name: Annotated[ObjectName | None, DecidedLater("every listener")] = Field(
        None, description="Listener of the Gateway. Default: every one that takes the route."
    )
    hostnames: Annotated[list[ObjectName], Field(max_length=16)] = Field(
        default_factory=list, description="Host names of the endpoint. Default: any."
    )


class Cost(ApiModel):
    """What serving costs."""

    price_per_accelerator_hour: Annotated[
        Annotated[float, Field(ge=0, le=1_000_000)] | None,
        DecidedLater("the operator's"),
    ] = Field(
        None,
        description="Price of one accelerator for one hour, in your currency. Default: the chart's "
        "`cost.pricePerAcceleratorHour`; on one machine the cost is then unknown.",
    )


class ModelDeploymentSpec(ApiModel):
    """A model behind one address, whatever its version."""

    model: DnsLabel = Field(description="Model whose versions are served, and its public name.")
    version: Annotated[VersionLabel | None, DecidedLater("the newest that passed its gates")] = (
        Field(None, description="Serve this version and no other. Default: follow the newest.")
    )
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    autoscaling: Annotated[Autoscaling | None, DecidedLater("replicas"), ClusterOnly()] = Field(
        None,
        description="Replicas by load, where KEDA is installed; `replicas` then counts only until "
        "the scaler takes over. Default: always `replicas`.",
    )
    engine: Engine = Engine()
    adapters: Annotated[Adapters | None, DecidedLater("the merged models")] = Field(
        None,
        description="Serve the versions as LoRA adapters: all replicas hold the base that they "
        "share, and a new version takes no accelerator more. The jobs have to publish them "
        "(output.artifact). Default: the merged models.",
    )
    resources: ServingResources = ServingResources()
    storage: Annotated[Storage, ClusterOnly()] = Storage()
    gateway: Annotated[Gateway | None, DecidedLater("a Service alone"), ClusterOnly()] = Field(
        None,
        description="Where requests come in. Default: through a Service of the cluster alone, "
        "which can neither split nor mirror.",
    )
    api_keys: Annotated[SecretReference | None, DecidedLater("none is asked for")] = Field(
        None,
        description="Secret whose key `api-key` every client has to give. Default: none is asked "
        "for.",
    )
    verification: Verification = Verification()
    rollout: Rollout = Rollout()
    slo: Annotated[ServiceLevelObjectives | None, DecidedLater("nothing is promised")] = Field(
        None,
        description="What is promised to clients; alerts ring when it is at risk. Default: nothing "
        "is promised.",
    )
    cost: Cost = Cost()
    monitoring: Monitoring = Monitoring()
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        8000, description="Port of the endpoint on a laptop, and of the Service in a cluster."
    )
    suspend: bool = Field(False, description="true stops every replica; the record stays.")
    revision_history_limit: Annotated[Positive, Field(le=100)] = Field(
        10, description="Rejected versions that are remembered."
    )


_ADAPTERS: Final[tuple[Rule[ModelDeploymentSpec], ...]] = (
    Rule(
        name="adapters-are-not-mirrored",
        scopes=("",),
        field="rollout.strategy",
        holds=lambda spec: spec.adapters is None or spec.rollout.strategy != "shadow",
        cel="!has(self.adapters) || !has(self.rollout.strategy) || "
        "self.rollout.strategy != 'shadow'",
        message="a copy of a request cannot be given to another adapter; choose canary",
    ),
    Rule(
        name="adapters-are-not-compared",
        scopes=("",),
        field="rollout.analysis.metrics",
        holds=lambda spec: (
            spec.adapters is None or Metric.QUALITY_LOSS not in spec.rollout.analysis.metrics
        ),
        cel=f"!has(self.adapters) || !('{Metric.QUALITY_LOSS}' in self.rollout.analysis.metrics)",
        message="adapters do not score each other's answers; leave qualityLoss out",
    ),
)

RULES: Final[tuple[Rule[Any], ...]] = (
    *autoscaling.RULES,
    *monitoring.RULES,
    *rollout.RULES,
    *slo.RULES,
    *_ADAPTERS,
    *TOLERATION_RULES,
)
