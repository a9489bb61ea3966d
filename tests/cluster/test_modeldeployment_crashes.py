"""Killed after each of its writes, the operator brings a deployment to the same end.

Each incarnation, in this process, knows nothing, makes one write, and is gone.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest
from kubernetes.aio import client, config

from attempts import SETTINGS
from cluster import Cluster
from held_jobs import kept_running
from model_deployments import CANARY, GATEWAY, Holds, a_deployment, is_at_rest, publish
from operator_process import an_operator
from serving_cluster import ServingCluster
from tunesmith_operator.controller.object_cache import ObjectCache
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.client import ApiServer
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
        super().__init__(api, [MODEL_DEPLOYMENT, MODEL_VERSION])
        self._written = written

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> None:
        await super().apply(manifest, manager=manager)
        self._die("apply", manifest["kind"])

    async def patch_status(self, seen: Manifest, change: Manifest) -> str:
        await super().patch_status(seen, change)
        self._die("patch", "status")

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
            reconciler = Reconciler(
                Mortal(api, written),
                SETTINGS,
                deployments=ObjectCache(),
                replicas=HttpReplicas(),
                metrics=DeploymentMetrics(),
            )
            try:
                await reconciler.reconcile(key)
            except KilledError:
                continue
            status = await asyncio.to_thread(cluster.get, "ModelDeployment", "helpdesk")
            if until(status["status"]):
                return
            assert time.monotonic() < give_up, json.dumps(status["status"], indent=1)
            await asyncio.sleep(0.2)


def test_killed_after_each_write_it_serves_and_changes_the_version_and_drops_nothing(
    serving: ServingCluster,
) -> None:
    cluster = serving.cluster
    written: list[str] = []
    publish(cluster, "v1")
    rollout = {"strategy": "blueGreen", "drainSeconds": 10}
    cluster.create(a_deployment(gateway=GATEWAY, rollout=rollout)).raise_for_status()
    asyncio.run(live_and_die(cluster, written, until=is_at_rest("v1")))
    serving.requests_per_second = 30
    publish(cluster, "v2")
    asyncio.run(live_and_die(cluster, written, until=is_at_rest("v2")))
    serving.requests_per_second = 0

    assert serving.versions() == ["v2"]
    assert {"create Deployment", "apply HTTPRoute", "delete Deployment"} <= set(written)
    assert written.count("create Deployment") == 2
    assert serving.answers.failed == []
    assert set(serving.answers.by_version) == {"v1", "v2"}


@pytest.mark.alone
def test_the_api_server_is_killed_while_a_candidate_is_on_trial(
    serving: ServingCluster, kill_api_server: Callable[[], None]
) -> None:
    cluster = serving.cluster
    publish(cluster, "v1")
    cluster.create(a_deployment(gateway=GATEWAY, rollout=CANARY)).raise_for_status()

    @contextmanager
    def operator() -> Iterator[subprocess.Popen[bytes]]:
        with an_operator(cluster.namespace) as (process, _):
            yield process

    with kept_running(operator):
        serving.wait_until(is_at_rest("v1"))
        serving.requests_per_second = 30
        publish(cluster, "v2")
        serving.wait_until(lambda status: status.get("candidate", {}).get("state") == "Analyzing")
        kill_api_server()
        promoted = serving.wait_until(is_at_rest("v2"), timeout_s=120)
        serving.requests_per_second = 0

    assert promoted.get("rejected", []) == []
    assert serving.answers.failed == []
