"""Namespaces that admit only *restricted* pods, and what a pod of ours says to be admitted."""

from typing import Any

from cluster import kubectl

_RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
NO_RIGHTS: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def make_restricted_namespace(name: str) -> None:
    """A namespace that admits no other pods."""
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, _RESTRICTED)
