"""The control plane that the benchmarks of the operator load, and what they learn from it.

It is the API server that KUBECONFIG names, on this machine; kubectl and kwok come from the PATH or
from KUBEBUILDER_ASSETS. Writes are counted from the API server's audit log, which the caller turns
on (`--audit-log-path`) and which lies at logs/audit.jsonl beside the kubeconfig, or where
BENCH_AUDIT_LOG says. Without one they are not counted.
"""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

Manifest = dict[str, Any]

STAGES = Path(__file__).with_name("fake_nodes.yaml")
NUM_NODES = 20
PODS_PER_NODE = 250
_CREATORS = 16
_MARK = "tunesmith.dev/bench"
_LOCAL = {"127.0.0.1", "::1", "localhost"}
_WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def missing() -> str:
    """What is not there to run on; empty if everything is."""
    use_assets()
    if "KUBECONFIG" not in os.environ:
        return "no API server: set KUBECONFIG to one on this machine"
    tools = [each for each in ("kubectl", "kwok") if shutil.which(each) is None]
    if tools:
        return f"{' and '.join(tools)} not on the PATH and not in KUBEBUILDER_ASSETS"
    view = ("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
    server = kubectl(*view)
    if urlsplit(server).hostname not in _LOCAL:
        return f"KUBECONFIG names {server}, and only a server on this machine is loaded"
    return ""


def use_assets() -> None:
    """Find programs in KUBEBUILDER_ASSETS, too."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and assets not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((assets, os.environ["PATH"]))


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """What kubectl prints.

    Raises:
        RuntimeError: it fails, with what it said.
    """
    done = subprocess.run(
        ["kubectl", *arguments],  # noqa: S607 - found on the PATH, as by anyone who types it
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def apply(*manifests: Manifest) -> None:
    """Server-side apply of all of them."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=text)


@contextmanager
def fake_nodes(log: Path) -> Iterator[None]:
    """Nodes that kwok plays, as `fake_nodes.yaml` says, with room for all pods of a benchmark."""
    command = ["kwok", f"--config={STAGES}", "--manage-all-nodes=false"]
    command += [f"--manage-nodes-with-annotation-selector={_MARK}=node"]
    command += [f"--kubeconfig={os.environ['KUBECONFIG']}", "--node-lease-duration-seconds=40"]
    names = [f"bench-{index}" for index in range(NUM_NODES)]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as kwok:
        try:
            apply(*(_node(name) for name in names))
            kubectl("wait", "--for=condition=Ready", "--timeout=60s", "node", *names)
            with _cordoned_others(names):
                yield
        finally:
            kubectl("delete", "--wait=false", "node", *names)
            kwok.terminate()


@contextmanager
def _cordoned_others(names: list[str]) -> Iterator[None]:
    """Keep pods off nodes that are not ours: one with a kubelet would look for their images."""
    open_ones = "--field-selector=spec.unschedulable!=true"
    found = kubectl("get", "nodes", open_ones, "--output=name").split()
    others = [each for each in found if each.removeprefix("node/") not in names]
    if others:
        kubectl("cordon", *others)
    try:
        yield
    finally:
        if others:
            kubectl("uncordon", *others)


def _node(name: str) -> Manifest:
    room = {"cpu": "1k", "memory": "4Ti", "pods": str(PODS_PER_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {_MARK: "node"},
            "labels": {"kubernetes.io/hostname": name},
        },
        "status": {"capacity": room, "allocatable": room},
    }


@contextmanager
def a_namespace(name: str) -> Iterator[str]:
    """A namespace, and nothing of it afterwards."""
    kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--timeout=600s")


@contextmanager
def proxied() -> Iterator[str]:
    """The address of `kubectl proxy`, by which any kubeconfig serves."""
    command = ["kubectl", "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            line = proxy.stdout.readline() if proxy.stdout else ""
            yield f"http://{line.split()[-1]}"
        finally:
            proxy.terminate()


async def create(
    session: aiohttp.ClientSession, path: str, manifests: list[Manifest]
) -> list[Manifest]:
    """POST each, sixteen at a time; return what the server made of them."""
    gate = asyncio.Semaphore(_CREATORS)

    async def one(manifest: Manifest) -> Manifest:
        async with gate, session.post(path, json=manifest) as answer:
            answer.raise_for_status()
            made: Manifest = await answer.json()
            return made

    return list(await asyncio.gather(*map(one, manifests)))


async def put_statuses(
    session: aiohttp.ClientSession, path: str, manifests: list[Manifest]
) -> None:
    """PUT the status of each, sixteen at a time."""
    gate = asyncio.Semaphore(_CREATORS)

    async def one(manifest: Manifest) -> None:
        url = f"{path}/{manifest['metadata']['name']}/status"
        async with gate, session.put(url, json=manifest) as answer:
            answer.raise_for_status()

    await asyncio.gather(*map(one, manifests))


async def wait_for_running(
    session: aiohttp.ClientSession, namespace: str, *, count: int, timeout_s: float
) -> list[float]:
    """When each of `count` pods of the namespace was first seen running, by `time.monotonic`.

    Raises:
        TimeoutError: they did not run in time.
    """
    seen: dict[str, float] = {}
    path = f"/api/v1/namespaces/{namespace}/pods"
    query = {"fieldSelector": "status.phase=Running", "watch": "1"}
    async with asyncio.timeout(timeout_s), session.get(path, params=query, timeout=_NEVER) as lines:
        while len(seen) < count:
            line = await lines.content.readuntil(b"\n")
            event = json.loads(line)
            if event["type"] == "ADDED":
                seen.setdefault(event["object"]["metadata"]["name"], time.monotonic())
    return sorted(seen.values())


_NEVER = aiohttp.ClientTimeout(total=None)


class AuditLog:
    """The writes that the API server notes, from now on."""

    def __init__(self) -> None:
        beside = Path(os.environ["KUBECONFIG"]).parent / "logs" / "audit.jsonl"
        self._path = Path(os.environ.get("BENCH_AUDIT_LOG", beside))
        begun = self._path.stat() if self._path.exists() else None
        self._begin = (begun.st_ino, begun.st_size) if begun else None

    def writes(self) -> dict[str, dict[str, int]] | None:
        """How many of each resource, by user; those of leases belong to no job."""
        if self._begin is None:
            return None
        inode, size = self._begin
        counts: dict[str, Counter[str]] = {}
        for path in sorted(self._files(), key=lambda each: each.stat().st_mtime, reverse=True):
            is_first = path.stat().st_ino == inode
            with path.open("rb") as log:
                log.seek(size if is_first else 0)
                for line in log:
                    if line.endswith(b"\n"):
                        _count(json.loads(line), counts)
            if is_first:
                break
        return {user: dict(count.most_common()) for user, count in counts.items()}

    def _files(self) -> Iterator[Path]:
        """The log and what it was before the server began a new one, every 100 MB."""
        return self._path.parent.glob(f"{self._path.stem}*{self._path.suffix}")


def _count(call: Manifest, counts: dict[str, Counter[str]]) -> None:
    target = call.get("objectRef", {})
    if call["verb"] not in _WRITES or call["stage"] != "ResponseComplete":
        return
    if target.get("resource") == "leases":
        return
    parts = (target.get("resource", ""), target.get("subresource"))
    user = call["user"]["username"].removeprefix("system:serviceaccount:")
    resource = "/".join(part for part in parts if part)
    counts.setdefault(user, Counter())[resource] += 1
