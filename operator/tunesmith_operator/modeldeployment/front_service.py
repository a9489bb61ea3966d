"""The route of a deployment without a Gateway: a Service whose selector names one revision.

It can neither split nor mirror. Its address stays the same through every change of version.
"""

from typing import Final

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import Route, RouteState
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.modeldeployment.deployment_ref import LABEL_REVISION, DeploymentRef
from tunesmith_operator.modeldeployment.http_route import PUBLIC_PATH
from tunesmith_operator.modeldeployment.manifests import selector_of, service_spec

# No revision: the Service stays, and keeps its address, while nobody answers.
_NOBODY: Final = "none"
_ALL: Final = 100


def front_service(owner: DeploymentRef, spec: ModelDeploymentSpec, route: Route) -> Manifest:
    """The Service that leads to the revision with the most weight."""
    revision = max(route.weights, key=lambda name: route.weights[name], default=_NOBODY)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(owner.name),
        "spec": service_spec(selector_of(owner, revision), port=spec.port),
    }


def service_state(
    stored: Manifest | None, *, owner: DeploymentRef, spec: ModelDeploymentSpec
) -> RouteState:
    """What is routed. The cluster's nodes take a change of a selector up within a second or two."""
    endpoint = f"http://{owner.name}.{owner.namespace}.svc:{spec.port}{PUBLIC_PATH}"
    if stored is None:
        return RouteState(in_use=Route(), endpoint=endpoint)
    revision = (stored["spec"].get("selector") or {}).get(LABEL_REVISION, _NOBODY)
    weights = {} if revision == _NOBODY else {revision: _ALL}
    return RouteState(in_use=Route(weights), endpoint=endpoint)
