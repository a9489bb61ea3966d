"""The part of `FineTuneJob.spec` that says where and when a job runs, not what it makes.

`spec.py` puts it into the spec. `Resources.workers` and `gpus_per_worker` matter everywhere, since
they change the order in which gradients are added up; the rest is marked `ClusterOnly`, so that
`tunesmith plan` can say on a laptop that it changes nothing there.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import ClusterOnly, DecidedLater
from tunesmith_api.field_types import Bytes, ObjectName, Processors, SecretReference
from tunesmith_api.placement import TOLERATION_RULES, Placement
from tunesmith_api.rules import Rule
from tunesmith_api.uris import StoreUri


class Resources(Placement):
    """What training runs on, and where the pods of all stages may run."""

    workers: Annotated[int, Field(ge=1, le=1024)] = Field(
        1,
        description="Processes that train together. In a cluster with KubeRay each has a pod of "
        "its own; elsewhere all are in one.",
    )
    min_workers: Annotated[int | None, Field(ge=1, le=1024)] = Field(
        None,
        description="Fewer than workers: when one is lost, training goes on from its last "
        "checkpoint with those that are left, as long as they are so many; once there is room for "
        "all, with all. The rows of a step stay the same. Default: exactly workers.",
    )
    gpus_per_worker: Annotated[int, Field(ge=0, le=16)] = Field(
        0, description="Accelerators of each worker; stages that only run a model get one."
    )
    cpu: Annotated[
        Processors | None,
        DecidedLater("1 for each pod, and for each worker of training"),
        ClusterOnly(),
    ] = Field(
        None,
        description="Processors asked for each worker of training and each other stage: 4 or "
        '500m, in quotes. Default: "1".',
    )
    memory: Annotated[
        Bytes | None,
        DecidedLater("the estimate, once prepare has seen the model; 2Gi before"),
        ClusterOnly(),
    ] = Field(
        None,
        description="Memory asked for each worker of training and each other stage: 16Gi. "
        "Default: the estimate of `tunesmith plan` once prepare has seen the model, 2Gi before. "
        "Less than the estimate is refused.",
    )
    # NB: each cloud marks spot nodes by taints and labels of its own; the operator knows them.
    spot: Annotated[bool, ClusterOnly()] = Field(
        False,
        description="true tolerates the taints by which GKE, AKS, EKS and Karpenter mark spot "
        "nodes, and prefers such nodes. What is preempted goes on from its last checkpoint and "
        "does not count against backoffLimit.",
    )


class Workspace(ApiModel):
    """Where a job's stages hand artifacts to each other in a cluster: a volume or an object store.

    A volume that is made goes when the job is deleted; one that is given stays, and so does what
    lies in an object store.
    """

    uri: StoreUri | None = Field(
        None,
        description="Prefix in an object store; each job has a folder of its own there, and no "
        "volume. Workers may then be on any node. Default: a volume.",
    )
    secret_ref: SecretReference | None = Field(
        None, description="Credentials to read, write and delete below uri."
    )
    # The group is that of the stages' pods, which run as user and group 65532, never as root.
    claim_name: Annotated[
        ObjectName | None,
        DecidedLater("one is made for the job", applies=lambda workspace: workspace.uri is None),
    ] = Field(
        None,
        description="A PersistentVolumeClaim that exists, writable by group 65532; jobs may share "
        "it. Default: one is made for the job.",
    )
    size: Annotated[
        Bytes | None,
        DecidedLater("the operator's", applies=lambda workspace: workspace.claim_name is None),
    ] = Field(
        None,
        description="Size of the volume that is made or, with uri, the most that a stage may write "
        "to its node's disk. Default: the operator's, 50Gi.",
    )
    storage_class_name: Annotated[
        ObjectName | None,
        DecidedLater("the operator's", applies=lambda workspace: workspace.makes_volume),
    ] = Field(None, description="StorageClass of the volume that is made. Default: the operator's.")
    access_mode: Annotated[
        Literal["ReadWriteOnce", "ReadWriteMany"] | None,
        DecidedLater("ReadWriteOnce", applies=lambda workspace: workspace.makes_volume),
    ] = Field(
        None,
        description="ReadWriteMany lets workers on several nodes share the volume that is made. "
        "Default: ReadWriteOnce.",
    )

    @property
    def makes_volume(self) -> bool:
        """Whether a volume is made for the job: neither a claim nor an object store is given."""
        return self.claim_name is None and self.uri is None


_WORKSPACE_RULES: Final[tuple[Rule[Workspace], ...]] = (
    Rule(
        name="workspace-given-or-made",
        scopes=("workspace",),
        field="claimName",
        holds=lambda workspace: (
            workspace.claim_name is None
            or not (workspace.size or workspace.storage_class_name or workspace.access_mode)
        ),
        cel="!has(self.claimName) || "
        "!(has(self.size) || has(self.storageClassName) || has(self.accessMode))",
        message="claimName gives a volume, the other fields describe one to make; give either",
    ),
    Rule(
        name="workspace-stored-or-mounted",
        scopes=("workspace",),
        field="uri",
        holds=lambda workspace: (
            workspace.uri is None
            or not (workspace.claim_name or workspace.storage_class_name or workspace.access_mode)
        ),
        cel="!has(self.uri) || "
        "!(has(self.claimName) || has(self.storageClassName) || has(self.accessMode))",
        message="uri keeps artifacts in an object store; claimName, storageClassName and "
        "accessMode are of a volume; give either",
    ),
    Rule(
        name="secret-for-remote-workspaces",
        scopes=("workspace",),
        field="secretRef",
        holds=lambda workspace: workspace.secret_ref is None or workspace.uri is not None,
        cel="!has(self.secretRef) || has(self.uri)",
        message="a volume is used without credentials; leave secretRef out, or give uri",
    ),
)

RULES: Final[tuple[Rule[Any], ...]] = (*TOLERATION_RULES, *_WORKSPACE_RULES)
