"""Kinds of the API server, and the path at which each is served.

Of our own kinds none stands here: a controller brings its `Resource` along, and the client is told.
"""

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind with its group, version and plural, which discovery would tell too.

    Written down, it costs no request, and a kind whose definition is missing has a path all the
    same: the server's 404 is then the answer. The group of the core API is empty.
    """

    kind: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """As `apiVersion` in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def owner_reference(self, name: str, *, uid: str) -> dict[str, Any]:
        """What makes an object go when the one of this kind, name and uid does."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": name,
            "uid": uid,
            "controller": True,
            # True would need the right to set finalizers on it, where the server checks that.
            "blockOwnerDeletion": False,
        }

    @property
    def prefix(self) -> str:
        """Where the server lists what it serves of this group and version."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"


_ADMISSION: Final = "admissionregistration.k8s.io"
_GATEWAY_API: Final = "gateway.networking.k8s.io"
_RBAC: Final = "rbac.authorization.k8s.io"

CONFIG_MAP: Final = Resource("ConfigMap", "", "v1", "configmaps")
DEPLOYMENT: Final = Resource("Deployment", "apps", "v1", "deployments")
DISRUPTION_BUDGET: Final = Resource("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
EVENT: Final = Resource("Event", "", "v1", "events")
JOB: Final = Resource("Job", "batch", "v1", "jobs")
POD: Final = Resource("Pod", "", "v1", "pods")
SERVICE: Final = Resource("Service", "", "v1", "services")
# Served where KubeRay, the Gateway API, KEDA or Prometheus' operator is installed; the others are
# there in every cluster.
RAY_JOB: Final = Resource("RayJob", "ray.io", "v1", "rayjobs")
GATEWAY: Final = Resource("Gateway", _GATEWAY_API, "v1", "gateways")
HTTP_ROUTE: Final = Resource("HTTPRoute", _GATEWAY_API, "v1", "httproutes")
PROMETHEUS_RULE: Final = Resource(
    "PrometheusRule", "monitoring.coreos.com", "v1", "prometheusrules"
)
SCALED_OBJECT: Final = Resource("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects")

RESOURCES: Final = (
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    EVENT,
    GATEWAY,
    HTTP_ROUTE,
    JOB,
    POD,
    PROMETHEUS_RULE,
    RAY_JOB,
    SCALED_OBJECT,
    SERVICE,
    Resource("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
    Resource("Role", _RBAC, "v1", "roles"),
    Resource("RoleBinding", _RBAC, "v1", "rolebindings"),
    Resource("ServiceAccount", "", "v1", "serviceaccounts"),
    Resource("ValidatingAdmissionPolicy", _ADMISSION, "v1", "validatingadmissionpolicies"),
    Resource(
        "ValidatingAdmissionPolicyBinding", _ADMISSION, "v1", "validatingadmissionpolicybindings"
    ),
)
