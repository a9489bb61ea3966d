"""`spec.deploy`: the ModelDeployment that serves the model once a version of it is published."""

from typing import Annotated

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import DnsLabel
from tunesmith_api.modeldeployment.spec import Gateway


class DeployResources(ApiModel):
    """What each replica runs on."""

    gpus_per_replica: Annotated[int, Field(ge=0, le=16)] = Field(
        0, description="Accelerators of each replica."
    )


class Deploy(ApiModel):
    """A ModelDeployment that is made if it is missing; one that is there is left as it is.

    It does not belong to the job: deleting a job never takes an endpoint down.
    """

    name: Annotated[DnsLabel | None, DecidedLater("output.model")] = Field(
        None, description="Name of the ModelDeployment. Default: that of the model."
    )
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    resources: DeployResources = DeployResources()
    gateway: Annotated[Gateway | None, DecidedLater("a Service alone")] = Field(
        None,
        description="Where requests come in. Default: through a Service of the cluster alone.",
    )
