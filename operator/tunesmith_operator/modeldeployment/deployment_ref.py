"""How the operator refers to a ModelDeployment: its resource, key, labels, and as an owner."""

from dataclasses import dataclass
from typing import Final, Self

from tunesmith_api.base import GROUP, VERSION
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.objects import MANAGED_BY, MANAGER, Manifest, owners_of
from tunesmith_operator.kube.resources import Resource

MODEL_DEPLOYMENT: Final = Resource("ModelDeployment", GROUP, VERSION, "modeldeployments")
MODEL_VERSION: Final = Resource("ModelVersion", GROUP, VERSION, "modelversions")

LABEL_DEPLOYMENT: Final = "tunesmith.dev/deployment"
LABEL_REVISION: Final = "tunesmith.dev/revision"
LABEL_VERSION: Final = "tunesmith.dev/version"


@dataclass(frozen=True, slots=True)
class DeploymentRef:
    """The ModelDeployment that everything belongs to; one made again has another uid."""

    name: str
    namespace: str
    uid: str

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The deployment with this metadata."""
        metadata = manifest["metadata"]
        return cls(metadata["name"], metadata["namespace"], metadata["uid"])

    @property
    def key(self) -> Key:
        return Key(MODEL_DEPLOYMENT.kind, self.namespace, self.name)

    @property
    def selector(self) -> str:
        """The labels of everything that is made for it, as a query."""
        return f"{MANAGED_BY}={MANAGER},{LABEL_DEPLOYMENT}={self.name}"

    def owns(self, manifest: Manifest) -> bool:
        """Whether the object is this very deployment's, and not somebody else's of that name."""
        return self.uid in owners_of(manifest)

    def name_of(self, revision: str) -> str:
        """The name of a revision's Deployment, Service and PodDisruptionBudget."""
        # The deployment's 40 characters, a hyphen and 8 stay below the 63 of a Service.
        return f"{self.name}-{revision}"

    def metadata(self, name: str, **labels: str) -> Manifest:
        """The metadata of an object that goes when the deployment does."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": {LABEL_DEPLOYMENT: self.name, MANAGED_BY: MANAGER, **labels},
            "ownerReferences": [MODEL_DEPLOYMENT.owner_reference(self.name, uid=self.uid)],
        }
