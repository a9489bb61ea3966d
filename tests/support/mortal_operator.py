"""Operators that are killed after each of their writes, one after the other.

Each incarnation, in this process, knows nothing, makes one write, and is gone.
"""

import asyncio
import json
import time
from typing import NoReturn

from kubernetes.aio import client, config

from attempts import SETTINGS
from cluster import Cluster
from model_deployments import Holds
from tunesmith_engine.monitoring.traffic_drift import SketchDetector
from tunesmith_operator.controller.object_cache import ObjectCache
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB
from tunesmith_operator.kube.client import ApiServer
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.objects import MANAGER, Manifest
from tunesmith_operator.modeldeployment.deployment_ref import MODEL_DEPLOYMENT, MODEL_VERSION
from tunesmith_operator.modeldeployment.metrics import DeploymentMetrics
from tunesmith_operator.modeldeployment.reconciler import Reconciler
from tunesmith_operator.modeldeployment.replica_client import HttpReplicas


class KilledError(Exception):
    """The process is gone; its write was done."""


class Mortal(ApiServer):
    """An API server that nobody survives a write to; notes what was written."""

    def __init__(self, api: client.ApiClient, written: list[str]) -> None:
        super().__init__(api, [MODEL_DEPLOYMENT, MODEL_VERSION, FINE_TUNE_JOB])
        self._written = written

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> None:
        await super().apply(manifest, manager=manager)
        self._die("apply", manifest["kind"])

    async def patch_status(self, seen: Manifest, change: Manifest) -> str:
        await super().patch_status(seen, change)
        self._die("patch", "status")

    async def patch(self, kind: str, namespace: str, name: str, change: Manifest) -> None:
        await super().patch(kind, namespace, name, change)
        self._die("patch", kind)

    async def create(self, manifest: Manifest) -> bool:
        if await super().create(manifest):
            self._die("create", manifest["kind"])
        return False

    async def delete(
        self, kind: str, namespace: str, name: str, *, as_seen: Manifest | None = None
    ) -> None:
        await super().delete(kind, namespace, name, as_seen=as_seen)
        self._die("delete", kind)

    def _die(self, verb: str, kind: str) -> NoReturn:
        self._written.append(f"{verb} {kind}")
        raise KilledError


async def live_and_die(cluster: Cluster, written: list[str], *, until: Holds) -> None:
    """Have one operator after another look at the deployment, until its status is as wanted."""
    await config.load_kube_config()  # type: ignore[no-untyped-call]
    key, give_up = Key(MODEL_DEPLOYMENT.kind, cluster.namespace, "helpdesk"), time.monotonic() + 90
    async with client.ApiClient() as api:
        while True:
            server = Mortal(api, written)
            recorder = EventRecorder(server)
            reconciler = Reconciler(
                server,
                SETTINGS,
                recorder,
                deployments=ObjectCache(),
                replicas=HttpReplicas(),
                metrics=DeploymentMetrics(),
                detector=SketchDetector(),
            )
            try:
                await reconciler.reconcile(key)
                await recorder.flush()
            except KilledError:
                continue
            status = await asyncio.to_thread(cluster.get, "ModelDeployment", "helpdesk")
            if until(status["status"]):
                return
            assert time.monotonic() < give_up, json.dumps(status["status"], indent=1)
            await asyncio.sleep(0.2)
