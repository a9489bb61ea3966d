"""What every pod that the operator makes has: Pod Security *restricted*, and where it may run."""

from typing import Final

from tunesmith_api.placement import Placement
from tunesmith_operator.kube.objects import Manifest

# Nobody's user, by the custom of distroless images.
UNPRIVILEGED: Final = 65532
POD_SECURITY: Final[Manifest] = {
    "runAsNonRoot": True,
    "runAsUser": UNPRIVILEGED,
    "runAsGroup": UNPRIVILEGED,
    "fsGroup": UNPRIVILEGED,
    # Always would walk through all files of a volume before each start.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def placement_fields(placement: Placement) -> Manifest:
    """The fields of a pod that say where it may run; those that nobody asked for are left out."""
    placed: Manifest = {
        "nodeSelector": dict(placement.node_selector),
        "tolerations": [
            toleration.model_dump(by_alias=True, exclude_none=True)
            for toleration in placement.tolerations
        ],
        "priorityClassName": placement.priority_class_name,
        "imagePullSecrets": [{"name": secret.name} for secret in placement.image_pull_secrets],
    }
    return {field: value for field, value in placed.items() if value}
