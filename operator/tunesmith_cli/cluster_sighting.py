"""What is seen of a deployment in a cluster, by way of `kubectl` and its configuration.

The replicas are asked through the API server, which takes the right to get `pods/proxy`. Without it
there is what the status says.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_cli.errors import EXIT_FAILED, CommandError
from tunesmith_cli.kubectl import Json, Kubectl, KubectlError, require_name
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_engine.monitoring.replica_metrics import parse_metrics
from tunesmith_engine.monitoring.sighting import ReplicaSighting, Sighting
from tunesmith_operator.modeldeployment.deployment_ref import LABEL_DEPLOYMENT, LABEL_REVISION

_ASKED_AT_ONCE: Final = 4
# Each is asked by two processes of kubectl at every look.
_MAX_ASKED: Final = 16
_MORE: Final = "dashboards: Grafana, where the chart's `dashboard.enabled` brought them"


class ClusterDeployment:
    """One deployment, looked at again and again."""

    def __init__(self, name: str, *, namespace: str) -> None:
        for given in (name, namespace):
            require_name(given)
        self._name = name
        self._of_namespace = ("--namespace", namespace)
        self._pods = f"/api/v1/namespaces/{namespace}/pods"

    def look(self) -> Sighting:
        """See it as it is now.

        Raises:
            CommandError: there is no such deployment, or the cluster cannot be asked.
        """
        try:
            told = Kubectl().json("get", "modeldeployment", self._name, *self._of_namespace)
            # A later release may have written fields that this one does not know.
            deployment = ModelDeployment.model_validate(
                {key: told[key] for key in ("metadata", "spec", "status") if key in told}
            )
        except KubectlError as error:
            raise CommandError(f"no deployment '{self._name}' is seen: {error}") from error
        except ValidationError as error:
            problem = error.errors()[0]
            raise CommandError(
                f"'{self._name}' is of another release: {problem['loc']} {problem['msg']}; use the "
                "command of the operator's release",
                code=EXIT_FAILED,
            ) from error
        replicas, unread = self._replicas()
        return Sighting(
            name=self._name,
            time=datetime.now(UTC),
            seconds=time.monotonic(),
            spec=deployment.spec,
            status=deployment.status or ModelDeploymentStatus(),
            replicas=replicas,
            unread=unread,
            more=_MORE,
        )

    def _replicas(self) -> tuple[tuple[ReplicaSighting, ...], str]:
        """The replicas, and why they could not be asked."""
        chosen = ("--selector", f"{LABEL_DEPLOYMENT}={self._name}", *self._of_namespace)
        try:
            pods = Kubectl().json("get", "pods", *chosen)["items"]
        except KubectlError as error:
            return (), f"pods cannot be listed: {error}"
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as executor:
            seen = tuple(executor.map(self._replica, pods[:_MAX_ASKED]))
        unread = next((one.message for one in seen if one.report is None), "")
        left_out = f"{len(pods) - _MAX_ASKED} more replicas are not asked"
        return seen, unread or (left_out if len(pods) > _MAX_ASKED else "")

    def _replica(self, pod: Json) -> ReplicaSighting:
        name = pod["metadata"]["name"]
        containers = pod.get("status", {}).get("containerStatuses", ())
        seen = ReplicaSighting(
            name=name,
            revision=pod["metadata"]["labels"].get(LABEL_REVISION, ""),
            restarts=sum(container.get("restartCount", 0) for container in containers),
        )
        try:
            report = ReplicaReport.model_validate_json(self._ask(pod, "tunesmith/state"))
            metrics = parse_metrics(self._ask(pod, "metrics"))
        except KubectlError as error:
            return replace(seen, message=str(error))
        except ValidationError:
            return replace(seen, message="its answer at /tunesmith/state is none of a replica")
        return replace(seen, report=report, metrics=metrics)

    def _ask(self, pod: Json, path: str) -> str:
        port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
        address = f"{self._pods}/{pod['metadata']['name']}:{port}/proxy/{path}"
        return Kubectl().text("get", "--raw", address)
