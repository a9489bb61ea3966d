"""Plays KubeRay for many jobs at once, each in a namespace of its own."""

from collections.abc import Callable, Collection
from typing import Any

import httpx

from cluster import Cluster
from kuberay import KubeRay

Report = Callable[[dict[str, Any]], object]


class RayCrowd:
    """KubeRay in all namespaces; it has nothing to do where its kinds are not defined."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._at: dict[str, KubeRay] = {}

    def play_once(self, namespaces: Collection[str], report: Report) -> None:
        """Take each RayJob a step on: until it runs, or from there to the end, with a report."""
        for rayjob in self._rayjobs():
            known = rayjob["metadata"]
            if known["namespace"] in namespaces and "deletionTimestamp" not in known:
                self._step(rayjob, report)

    def _step(self, rayjob: dict[str, Any], report: Report) -> None:
        namespace = rayjob["metadata"]["namespace"]
        kuberay = self._at.setdefault(namespace, KubeRay(Cluster(self._http, namespace)))
        state = rayjob.get("status", {}).get("jobDeploymentStatus", "")
        if not state:
            kuberay.play(rayjob, "running")
        elif state == "Running":
            report(kuberay.pod("head"))
            kuberay.play(rayjob, "done")
            kuberay.shut_down()

    def _rayjobs(self) -> list[dict[str, Any]]:
        answer = self._http.get("/apis/ray.io/v1/rayjobs")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        return found
