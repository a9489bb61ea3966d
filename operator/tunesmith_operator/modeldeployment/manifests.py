"""What the operator makes for a revision: a Deployment, a Service, and a PodDisruptionBudget.

A Deployment's pods are made from the settings of the time when the revision was taken up, and stay
so: what would change them is another revision. Only its replicas move.
"""

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import DesiredRevision
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.modeldeployment.deployment_ref import (
    LABEL_DEPLOYMENT,
    LABEL_REVISION,
    LABEL_VERSION,
    DeploymentRef,
)
from tunesmith_operator.modeldeployment.serving_pod import PORT, pod_template
from tunesmith_operator.settings import Settings


def deployment_of(
    revision: DesiredRevision,
    spec: ModelDeploymentSpec,
    *,
    owner: DeploymentRef,
    settings: Settings,
    num_bytes: int | None,
) -> Manifest:
    """The Deployment of a revision, with its replicas of now."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(revision, owner),
        "spec": {
            "replicas": revision.replicas,
            "revisionHistoryLimit": 1,
            # Of a `kubectl rollout restart`: a replica goes when another is there.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "selector": {"matchLabels": selector_of(owner, revision.revision)},
            "template": pod_template(
                revision, spec, owner=owner, settings=settings, num_bytes=num_bytes
            ),
        },
    }


def replicas_of(revision: DesiredRevision, *, owner: DeploymentRef) -> Manifest:
    """The part of the Deployment that moves; applied, it leaves the rest as it was created."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": owner.name_of(revision.revision), "namespace": owner.namespace},
        "spec": {"replicas": revision.replicas},
    }


def revision_service(revision: DesiredRevision, *, owner: DeploymentRef) -> Manifest:
    """The Service of one revision, to which a route gives its part.

    Those of adapters lead to the pods of their base: the route's header says which one is meant.
    """
    host = revision.base.revision if revision.base else revision.revision
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(revision, owner),
        "spec": service_spec(selector_of(owner, host), port=PORT),
    }


def service_spec(selector: dict[str, str], *, port: int) -> Manifest:
    """A Service of the cluster alone: whoever reaches it reaches every path of the server."""
    return {
        "type": "ClusterIP",
        "selector": selector,
        "ports": [{"name": "http", "port": port, "protocol": "TCP", "targetPort": PORT}],
    }


def disruption_budget(revision: DesiredRevision, *, owner: DeploymentRef) -> Manifest:
    """Nodes are emptied one replica at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(revision, owner),
        "spec": {
            # Not a minimum of available ones: with one replica no node could ever be emptied.
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector_of(owner, revision.revision)},
        },
    }


def selector_of(owner: DeploymentRef, revision: str) -> dict[str, str]:
    """The labels by which the pods of a revision are found."""
    return {LABEL_DEPLOYMENT: owner.name, LABEL_REVISION: revision}


def covers(stored: object, wanted: object) -> bool:
    """Whether an object says all that is wanted; what others and defaults add does not count."""
    if isinstance(wanted, dict):
        return isinstance(stored, dict) and all(
            name in stored and covers(stored[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(stored, list)
            and len(stored) == len(wanted)
            and all(covers(*pair) for pair in zip(stored, wanted, strict=True))
        )
    return stored == wanted


def _metadata(revision: DesiredRevision, owner: DeploymentRef) -> Manifest:
    labels = {LABEL_REVISION: revision.revision, LABEL_VERSION: revision.version}
    return owner.metadata(owner.name_of(revision.revision), **labels)
