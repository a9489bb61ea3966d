"""A real API server keeps the contract that the double of the unit tests keeps."""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from kubernetes.aio import client, config

from api_contract import ApiContract
from api_scene import Manifest
from cluster import Cluster, kubectl
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB
from tunesmith_operator.kube.client import ApiServer

T = TypeVar("T")


class RealPlace:
    """A namespace of the real server, for which `ApiServer` speaks as in the operator."""

    def __init__(self, cluster: Cluster, runner: asyncio.Runner) -> None:
        self._others = cluster
        self._runner = runner
        self.namespace = cluster.namespace
        self._api = runner.run(connected())
        self.cluster = ApiServer(self._api, [FINE_TUNE_JOB])

    def wait(self, request: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(request)

    def put(self, manifest: Manifest) -> None:
        self._others.kubectl("create", "--filename=-", stdin=json.dumps(manifest))

    def change(self, kind: str, name: str, change: Manifest) -> None:
        patch = f"--patch={json.dumps(change)}"
        self._others.kubectl("patch", kind.lower(), name, "--type=merge", patch)

    def defines(self, kind: str) -> bool:
        group = {"RayJob": "ray.io/v1", "Workload": "kueue.x-k8s.io/v1beta2"}[kind]
        return group in kubectl("api-versions").splitlines()

    def leave(self) -> None:
        self.wait(self._api.close())  # type: ignore[no-untyped-call]


async def connected() -> client.ApiClient:
    """The server of KUBECONFIG."""
    await config.load_kube_config()  # type: ignore[no-untyped-call]
    return client.ApiClient()


@pytest.fixture
def place(cluster: Cluster) -> Iterator[RealPlace]:
    with asyncio.Runner() as runner:
        place = RealPlace(cluster, runner)
        yield place
        place.leave()


class TestRealServer(ApiContract):
    """There as here."""
