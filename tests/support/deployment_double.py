"""An API server in memory with one ModelDeployment; pods are ready as soon as they are wanted."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from api_double import ApiDouble, Manifest
from attempts import SETTINGS
from model_deployments import a_deployment, published
from tunesmith_engine.deployment.adapter_list import AdapterList
from tunesmith_engine.deployment.replica_report import ReadyReason, ReplicaReport
from tunesmith_engine.monitoring.drift_page import DriftPage
from tunesmith_engine.monitoring.monitor import Detector
from tunesmith_engine.monitoring.traffic_drift import SketchDetector
from tunesmith_engine.rollout.ring_page import RingPage
from tunesmith_operator.controller.object_cache import ObjectCache
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.objects import MANAGED_BY, MANAGER
from tunesmith_operator.modeldeployment.metrics import DeploymentMetrics
from tunesmith_operator.modeldeployment.reconciler import Reconciler
from tunesmith_operator.settings import Settings

KEY = Key("ModelDeployment", "ns", "helpdesk")
READY = ReplicaReport(
    revision="0a1b2c3d",
    instance="1",
    ready=True,
    draining=False,
    reason=ReadyReason.READY,
    message="",
    running=0,
    accepted=0,
    quiet_seconds=60.0,
)


class IdleReplicas:
    """All replicas are ready, and nobody asks them anything.

    `report` is what each says of itself, `pages` what each has measured, `text` its metrics.
    """

    def __init__(self) -> None:
        self.report = READY
        self.text = ""
        self.pages: list[DriftPage] = []
        self.statistics: dict[str, Any] | None = None

    async def states(self, hosts: Mapping[str, str]) -> dict[str, ReplicaReport]:
        # A pod is named DEPLOYMENT-REVISION-NUMBER.
        return {
            name: self.report.model_copy(update={"revision": name.split("-")[-2]}) for name in hosts
        }

    async def metrics(self, hosts: Mapping[str, str]) -> dict[str, str]:
        return dict.fromkeys(hosts, self.text)

    async def drift(
        self,
        hosts: Mapping[str, str],
        after: Mapping[str, int],  # noqa: ARG002 - as it is asked
    ) -> dict[str, list[DriftPage]]:
        return dict.fromkeys(hosts, self.pages)

    async def reference(self, name: str, address: str) -> dict[str, Any] | None:  # noqa: ARG002
        return self.statistics

    async def hold(self, _: Mapping[str, tuple[str, AdapterList]]) -> None:
        return

    async def samples(
        self,
        hosts: Mapping[str, str],
        after: Mapping[str, int],  # noqa: ARG002 - as it is asked
    ) -> dict[str, list[RingPage]]:
        return {name: [] for name in hosts}


class DeploymentDouble(ApiDouble):
    """The server, and the operator's looks at the deployment; each a minute after the last."""

    def __init__(self, *kinds: str, **spec: Any) -> None:
        super().__init__("ModelDeployment", "ModelVersion", *kinds)
        self.now = datetime(2026, 11, 27, 12, tzinfo=UTC)
        self.metrics = DeploymentMetrics()
        self.replicas = IdleReplicas()
        self.detector: Detector = SketchDetector()
        self.recorder = EventRecorder(self)
        self.reconciler = self.new_operator()
        deployment = a_deployment(**spec)
        deployment["metadata"]["namespace"] = "ns"
        self.put(deployment)

    def use(self, settings: Settings) -> None:
        """Start the operator with other settings."""
        self.reconciler = self.new_operator(settings)

    def new_operator(self, settings: Settings = SETTINGS) -> Reconciler:
        return Reconciler(
            self,
            settings,
            self.recorder,
            deployments=ObjectCache(),
            replicas=self.replicas,
            metrics=self.metrics,
            detector=self.detector,
            clock=lambda: self.now,
        )

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.objects[KEY].get("status", {})
        return found

    def publish(self, name: str, **spec: Any) -> None:
        version = published(name, **spec)
        version["metadata"]["namespace"] = "ns"
        self.put(version)

    def names(self, kind: str) -> list[str]:
        return [name for of_kind, _, name in self.objects if of_kind == kind]

    def play_pods(self) -> None:
        """What the cluster makes of Deployments: as many pods as wanted, all ready."""
        deployments = [item for key, item in self.objects.items() if key[0] == "Deployment"]
        wanted = {
            f"{item['metadata']['name']}-{number}": item
            for item in deployments
            for number in range(item["spec"]["replicas"])
        }
        for name in set(self.names("Pod")) - wanted.keys():
            del self.objects["Pod", "ns", name]
        for name in wanted.keys() - set(self.names("Pod")):
            self.put(_pod(name, wanted[name]))

    async def look(self) -> float | None:
        """One look of the operator, and what the cluster then does."""
        after_s = await self.reconciler.reconcile(KEY)
        await self.recorder.flush()
        self.play_pods()
        self.now += timedelta(minutes=1)
        return after_s


def _pod(name: str, deployment: Manifest) -> Manifest:
    template = deployment["spec"]["template"]
    metadata = {
        "name": name,
        "namespace": "ns",
        "labels": {MANAGED_BY: MANAGER, **template["metadata"]["labels"]},
        "ownerReferences": [
            {"uid": deployment["metadata"]["uid"], "kind": "Deployment", "name": "x"}
        ],
    }
    status = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": status}
