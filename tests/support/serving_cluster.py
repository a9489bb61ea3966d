"""Plays the nodes and the Gateway of a served model beside the control plane of the tests.

Each pod of a replica becomes a stand-in engine at a loopback address of its own, with the pod's own
arguments; its probes are asked as a kubelet does, and its end goes by drain and SIGTERM. Routes are
confirmed as a Gateway's controller does, and requests follow what was confirmed, by weight.
"""

import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from cluster import Cluster
from tunesmith_operator.modeldeployment.deployment_ref import LABEL_REVISION, LABEL_VERSION

Json = dict[str, Any]
ENGINE: Final = Path(__file__).parent / "stand_in_engine.py"
PORT: Final = 8000
_MERGE: Final = {"Content-Type": "application/merge-patch+json"}
# Of this process alone: several tests run side by side.
_NETWORK: Final = f"127.{10 + os.getpid() % 240}"
_ADDRESSES: Final = itertools.count(0)
_STREAMED: Final = 0.5
_QUESTION: Final[Json] = {
    "model": "helpdesk",
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "?"}],
}
_ROUTES: Final = "/apis/gateway.networking.k8s.io/v1"


@dataclass
class Replica:
    """A pod that runs."""

    name: str
    revision: str
    version: str
    address: str
    process: subprocess.Popen[bytes]
    start: Callable[[], subprocess.Popen[bytes]]
    is_ready: bool = False
    restarts: int = 0


@dataclass
class Answers:
    """What clients got: requests by version, and how many were not whole."""

    by_version: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


class ServingCluster:
    """Everything beyond the API server. `faults` are flags of the engine, by version."""

    def __init__(self, cluster: Cluster, *, has_gateway: bool = True) -> None:
        self.cluster = cluster
        self.faults: dict[str, list[str]] = {}
        self.replicas: dict[str, Replica] = {}
        self.answers = Answers()
        self.requests_per_second = 0.0
        # What pods have at /workspace.
        self.volume: Path | None = None
        self._node = f"n-{cluster.namespace}"
        self._has_gateway = has_gateway
        self._random = random.Random(0)
        self._route: list[tuple[str, int]] = []
        # Of the revisions in the route: what the proxy adds, and whose pods their Services select.
        self._headers: dict[str, dict[str, str]] = {}
        self._hosts: dict[str, str] = {}
        self._is_over = threading.Event()
        self._failure: BaseException | None = None

    def wait_until(
        self, holds: Callable[[Json], bool], *, name: str = "helpdesk", timeout_s: float = 60
    ) -> Json:
        """The status of a deployment, once it is as wanted."""
        give_up = time.monotonic() + timeout_s
        status: Json = {}
        while time.monotonic() < give_up:
            if self._failure is not None:
                raise self._failure
            status = self.cluster.get("ModelDeployment", name).get("status", {})
            if status and holds(status):
                return status
            time.sleep(0.1)
        raise AssertionError(json.dumps(status, indent=1))

    def objects(self, path: str) -> list[Json]:
        """What there is in the namespace: `apps/v1/deployments`, `v1/services`."""
        prefix, _, plural = path.rpartition("/")
        root = f"/api/{prefix}" if prefix == "v1" else f"/apis/{prefix}"
        url = f"{root}/namespaces/{self.cluster.namespace}/{plural}"
        found: list[Json] = self.cluster.http.get(url).raise_for_status().json()["items"]
        return found

    def versions(self) -> list[str]:
        """The versions that have a Deployment, but for those that are on their way out."""
        return [
            item["metadata"]["labels"][LABEL_VERSION]
            for item in self.objects("apps/v1/deployments")
            if "deletionTimestamp" not in item["metadata"]
        ]

    @contextmanager
    def running(self) -> Iterator["ServingCluster"]:
        """Play, until the context ends."""
        self._make_node()
        threads = [threading.Thread(target=self._repeat, args=(step,)) for step in self._steps()]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()
            for replica in self.replicas.values():
                replica.process.kill()
                replica.process.wait()
            self.cluster.http.delete(f"/api/v1/nodes/{self._node}")
        if self._failure is not None:
            raise self._failure

    def _steps(self) -> Iterator[Callable[[], None]]:
        yield self._play_pods
        yield self._send_requests
        if self._has_gateway:
            yield self._confirm_routes

    def _repeat(self, step: Callable[[], None]) -> None:
        while not self._is_over.is_set():
            try:
                step()
            except (httpx.TransportError, httpx.HTTPStatusError):
                # The API server is away: kubelets and Gateways try again, and requests go on.
                pass
            except BaseException as error:  # noqa: BLE001 - told to the test
                self._failure = error
                return
            self._is_over.wait(0.1)

    def _make_node(self) -> None:
        node = {"metadata": {"name": self._node}, "spec": {"unschedulable": True}}
        self.cluster.http.post("/api/v1/nodes", json=node).raise_for_status()

    # The kubelet.

    def _play_pods(self) -> None:
        pods = {pod["metadata"]["name"]: pod for pod in self.objects("v1/pods")}
        for name, pod in pods.items():
            if LABEL_REVISION not in pod["metadata"].get("labels", {}):
                continue
            if "deletionTimestamp" in pod["metadata"]:
                self._end(pod)
            elif name not in self.replicas:
                self._start(pod)
            else:
                self._probe(self.replicas[name])
        for name in self.replicas.keys() - pods.keys():
            self._kill(self.replicas.pop(name))

    def _start(self, pod: Json) -> None:
        name = pod["metadata"]["name"]
        if not pod["spec"].get("nodeName"):
            target = {"target": {"kind": "Node", "name": self._node}, "metadata": {"name": name}}
            self.cluster.http.post(f"{self._pods}/{name}/binding", json=target)
        (server,) = pod["spec"]["containers"]
        command = server["command"]
        version = command[command.index("--version") + 1]
        number = next(_ADDRESSES)
        address = f"{_NETWORK}.{number // 200}.{number % 200 + 2}"
        start = partial(self._engine, command, version=version, address=address)
        revision = pod["metadata"]["labels"][LABEL_REVISION]
        self.replicas[name] = Replica(name, revision, version, address, start(), start)
        self._report(self.replicas[name])

    def _engine(self, command: list[str], *, version: str, address: str) -> subprocess.Popen[bytes]:
        def given(option: str) -> str:
            return command[command.index(option) + 1]

        flags = [
            part
            for option in ("--version", "--revision", "--digest")
            for part in (option, given(option))
        ]
        flags += ["--model", given("--name"), "--shutdown-timeout", given("--shutdown-timeout")]
        flags += ["--lora"] if "--adapters" in command else []
        flags += ["--volume", str(self.volume)] if self.volume is not None else []
        flags += ["--host", address, "--port", str(PORT), *self.faults.get(version, [])]
        return subprocess.Popen([sys.executable, str(ENGINE), *flags], stderr=subprocess.DEVNULL)

    def restart(self, replica: Replica) -> None:
        """End its engine, and start another one in its place, as a kubelet does."""
        self._kill(replica)
        replica.process = replica.start()
        replica.is_ready, replica.restarts = False, replica.restarts + 1
        self._report(replica)

    def _probe(self, replica: Replica) -> None:
        is_ready = _asks(replica, "ready")
        if is_ready != replica.is_ready:
            replica.is_ready = is_ready
            self._report(replica)

    def _report(self, replica: Replica) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        ready = "True" if replica.is_ready else "False"
        conditions = [
            {"type": type_, "status": status, "lastTransitionTime": now}
            for type_, status in {
                "PodScheduled": "True",
                "PodReadyToStartContainers": "True",
                "Initialized": "True",
                "ContainersReady": ready,
                "Ready": ready,
            }.items()
        ]
        container = {
            "name": "server",
            "image": "stages:1",
            "imageID": "x",
            "ready": replica.is_ready,
            "started": replica.is_ready,
            "restartCount": replica.restarts,
            "state": {"running": {"startedAt": now}},
        }
        status = {
            "phase": "Running",
            "podIP": replica.address,
            "podIPs": [{"ip": replica.address}],
            "startTime": now,
            "conditions": conditions,
            "containerStatuses": [container],
        }
        self.cluster.http.patch(
            f"{self._pods}/{replica.name}/status",
            content=json.dumps({"status": status}),
            headers=_MERGE,
        )

    def _end(self, pod: Json) -> None:
        """The preStop hook, SIGTERM, and the last word that lets the server forget the pod."""
        name = pod["metadata"]["name"]
        replica = self.replicas.pop(name, None)
        if replica is not None:
            self._drain(replica)
            self._kill(replica)
        self.cluster.http.delete(f"{self._pods}/{name}", params={"gracePeriodSeconds": "0"})

    def _drain(self, replica: Replica) -> None:
        base = f"http://{replica.address}:{PORT}/tunesmith"
        give_up = time.monotonic() + 10
        try:
            httpx.post(f"{base}/drain", timeout=2)
            while time.monotonic() < give_up:
                state = httpx.get(f"{base}/state", timeout=2).json()
                if state["running"] == 0 and state["quietSeconds"] > 0.3:
                    return
                time.sleep(0.05)
        except httpx.HTTPError:
            return

    @staticmethod
    def _kill(replica: Replica) -> None:
        replica.process.terminate()
        try:
            replica.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            replica.process.kill()
            replica.process.wait()

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.cluster.namespace}/pods"

    # The Gateway's controller, and its proxy.

    def _confirm_routes(self) -> None:
        self._hosts = {
            service["metadata"]["labels"][LABEL_REVISION]: selector[LABEL_REVISION]
            for service in self.objects("v1/services")
            if LABEL_REVISION in (selector := service["spec"].get("selector") or {})
            and LABEL_REVISION in (service["metadata"].get("labels") or {})
        }
        for route in self.objects("gateway.networking.k8s.io/v1/httproutes"):
            generation = route["metadata"]["generation"]
            (rule,) = route["spec"]["rules"]
            self._route = [
                (backend["name"].rpartition("-")[2], backend["weight"])
                for backend in rule["backendRefs"]
            ]
            self._headers = {
                backend["name"].rpartition("-")[2]: {
                    header["name"]: header["value"]
                    for entry in backend.get("filters") or []
                    for header in entry["requestHeaderModifier"]["set"]
                }
                for backend in rule["backendRefs"]
            }
            parents = route.get("status", {}).get("parents") or []
            if parents and parents[0]["conditions"][0]["observedGeneration"] == generation:
                continue
            now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            conditions = [
                {
                    "type": type_,
                    "status": "True",
                    "reason": type_,
                    "message": "",
                    "lastTransitionTime": now,
                    "observedGeneration": generation,
                }
                for type_ in ("Accepted", "ResolvedRefs")
            ]
            parent = {
                "parentRef": route["spec"]["parentRefs"][0],
                "controllerName": "tests.tunesmith.dev/gateway",
                "conditions": conditions,
            }
            name = route["metadata"]["name"]
            self.cluster.http.patch(
                f"{_ROUTES}/namespaces/{self.cluster.namespace}/httproutes/{name}/status",
                content=json.dumps({"status": {"parents": [parent]}}),
                headers=_MERGE,
            )

    def _send_requests(self) -> None:
        """Requests at a constant rate, whatever the answers take."""
        if not self.requests_per_second:
            return
        # In this order: at the end the pool waits for its requests, and only then they lose their
        # client.
        with httpx.Client(timeout=10) as client, ThreadPoolExecutor(32) as pool:
            due = time.monotonic()
            while self.requests_per_second and not self._is_over.is_set():
                pool.submit(self._request, client)
                due += 1 / self.requests_per_second
                time.sleep(max(0.0, due - time.monotonic()))

    def _request(self, client: httpx.Client) -> None:
        route = self._route
        ready = [replica for replica in list(self.replicas.values()) if replica.is_ready]
        if not route or not ready:
            return
        (revision,) = self._random.choices(*zip(*route, strict=True))
        host = self._hosts.get(revision, revision)
        able = [replica for replica in ready if replica.revision == host]
        if not able:
            self.answers.failed.append(f"nobody answers for {revision}")
            return
        replica = self._random.choice(able)
        # Of an answer in one piece nobody knows when its first token came.
        is_streamed = self._random.random() < _STREAMED
        try:
            answer = client.post(
                f"http://{replica.address}:{PORT}/v1/chat/completions",
                json=_QUESTION | {"stream": is_streamed},
                headers=self._headers.get(revision, {}),
            )
        except httpx.HTTPError as error:
            self.answers.failed.append(f"{replica.version}: {error!r}")
            return
        version = answer.headers.get("x-tunesmith-version", "")
        self.answers.by_version[version] = self.answers.by_version.get(version, 0) + 1
        is_ended = not is_streamed or answer.text.rstrip().endswith("data: [DONE]")
        if not (answer.is_success and is_ended and '"finish_reason":"length"' in _dense(answer)):
            self.answers.failed.append(f"{replica.version}: {answer.status_code}")


def _dense(answer: httpx.Response) -> str:
    return answer.text.replace('": "', '":"')


def _asks(replica: Replica, path: str) -> bool:
    try:
        url = f"http://{replica.address}:{PORT}/tunesmith/{path}"
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
