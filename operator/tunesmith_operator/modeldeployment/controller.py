"""The controller of ModelDeployments, as `app.py` registers it."""

from typing import Final

from tunesmith_engine.monitoring.traffic_drift import SketchDetector
from tunesmith_operator.controller.child_cache import ChildCache, ChildWatch
from tunesmith_operator.controller.controller import Controller, RelatedWatch
from tunesmith_operator.controller.object_cache import ObjectCache
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.resources import DEPLOYMENT, HTTP_ROUTE, POD, SERVICE, Resource
from tunesmith_operator.modeldeployment.deployment_ref import (
    LABEL_DEPLOYMENT,
    MODEL_DEPLOYMENT,
    MODEL_VERSION,
)
from tunesmith_operator.modeldeployment.metrics import DeploymentMetrics
from tunesmith_operator.modeldeployment.reconciler import Reconciler
from tunesmith_operator.modeldeployment.replica_client import HttpReplicas
from tunesmith_operator.settings import Settings


def _nothing(_key: Key, _name: str) -> bool:
    """Each look reads what was made; news only say that it is time for one."""
    return False


def _watch(resource: Resource, *, is_optional: bool = False) -> ChildWatch:
    return ChildWatch(resource, LABEL_DEPLOYMENT, is_kept=_nothing, is_optional=is_optional)


WATCHES: Final = (
    _watch(DEPLOYMENT),
    _watch(POD),
    _watch(SERVICE),
    _watch(HTTP_ROUTE, is_optional=True),
)


def modeldeployment_controller(
    client: KubeClient, settings: Settings, recorder: EventRecorder
) -> Controller:
    """The controller, with caches that know nothing yet."""
    deployments, metrics = ObjectCache(), DeploymentMetrics(settings.accelerator_hour_price)
    reconciler = Reconciler(
        client,
        settings,
        recorder,
        deployments=deployments,
        replicas=HttpReplicas(),
        metrics=metrics,
        detector=SketchDetector(),
    )
    return Controller(
        MODEL_DEPLOYMENT,
        reconciler.reconcile,
        objects=deployments,
        children=ChildCache(WATCHES),
        related=(RelatedWatch(MODEL_VERSION, reconciler.followers),),
        collectors=metrics.collectors,
        documents={"recordings": reconciler.recording},
    )
