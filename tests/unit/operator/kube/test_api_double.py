"""The double keeps the contract that a real API server keeps."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from api_contract import ApiContract
from api_double import ApiDouble
from api_scene import Manifest

T = TypeVar("T")
NOTHING_MORE: tuple[str, ...] = ()


class DoublePlace:
    """The double, with or without the definitions of KubeRay and Kueue."""

    namespace = "ns"

    def __init__(self, *kinds: str) -> None:
        self.cluster = ApiDouble(*kinds)
        self._kinds = kinds

    def wait(self, request: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(request)

    def put(self, manifest: Manifest) -> None:
        self.cluster.put(manifest)

    def change(self, kind: str, name: str, change: Manifest) -> None:
        self.cluster.change(kind, self.namespace, name, change)

    def defines(self, kind: str) -> bool:
        return kind in self._kinds


@pytest.fixture(params=[NOTHING_MORE, ("RayJob", "Workload")], ids=["bare", "kuberay-and-kueue"])
def place(request: pytest.FixtureRequest) -> DoublePlace:
    return DoublePlace(*request.param)


class TestDouble(ApiContract):
    """Here as there."""
