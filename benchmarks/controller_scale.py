"""1,000 jobs to running children: the operator, KubeRay, the Job controller, a plain kopf operator.

Beside them the operator's requests without the operator: as fast as any that writes as much may be.
KubeRay is measured where it runs in this cluster, by the head pods of RayJobs, and of RayClusters,
which have no job to keep account of.

All on the same API server in the same run, one after the other, each in a namespace of its own. The
objects are created by the benchmark, sixteen at a time, and the time is that from the first request
to the last pod that is seen running. The ways of the operators end in the Job controller, too. Our
jobs share one volume, since the pods of the peers have none: by default each has its own, whose
making takes the controller of volumes longer than everything else.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import control_plane
import plain_operator
import requests_alone
import tunesmith_cluster
from control_plane import AuditLog, Manifest
from operator_runs import give_rights, running, usage_of, user_of

NUM_JOBS = 1000
TIMEOUT_S = 600
TARGETS = {"timesJobController": 1.6, "peakMiB": 200, "writesPerJob": 6}
PLAIN = "bench-plain"
_SOME = 0.1


@contextmanager
def _nobody(namespace: str, home: Path) -> Iterator[None]:  # noqa: ARG001 - as the others
    """The Job controller runs already."""
    yield None


@contextmanager
def _our_operator(namespace: str, home: Path) -> Iterator[int]:
    with tunesmith_cluster.an_operator(namespace, home) as operator:
        yield operator.pid


@contextmanager
def _plain_operator(namespace: str, home: Path) -> Iterator[int]:
    with running(PLAIN, [plain_operator.__file__, namespace], home=home) as process:
        yield process.pid


@dataclass(frozen=True, slots=True)
class Contender:
    """A way from objects to running pods.

    `made` gives an object of that name, `path` is where it is created, and `started` runs who works
    on it as `account`, and gives the process's id. `then` is what we ourselves write after.
    """

    path: str
    made: Callable[[str], Manifest]
    started: Callable[[str, Path], AbstractContextManager[int | None]]
    account: str = ""
    then: Callable[[aiohttp.ClientSession, list[Manifest]], Awaitable[None]] | None = None


_TEMPLATE = {
    "spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "stage", "image": "stages:1", "command": ["python"]}],
    }
}


def _batch_job(name: str) -> Manifest:
    spec = {"backoffLimit": 0, "template": _TEMPLATE}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def _plain_job(name: str) -> Manifest:
    version = f"{plain_operator.GROUP}/v1"
    head = {"apiVersion": version, "kind": "PlainJob", "metadata": {"name": name}}
    return head | {"spec": {"template": _TEMPLATE}}


def _ray_job(name: str) -> Manifest:
    """Nothing is submitted by a Job of its own, and its pods run no Ray that could answer."""
    spec = {"entrypoint": "python", "submissionMode": "HTTPMode", "rayClusterSpec": _HEAD_ONLY}
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": name}, "spec": spec}


def _ray_cluster(name: str) -> Manifest:
    head = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name}}
    return head | {"spec": _HEAD_ONLY}


_HEAD_ONLY = {
    "headGroupSpec": {
        "rayStartParams": {},
        "template": {"spec": {"containers": [{"name": "ray-head", "image": "stages:1"}]}},
    }
}


_JOB_CONTROLLER = Contender("/apis/batch/v1/namespaces/{namespace}/jobs", _batch_job, _nobody)
_TUNESMITH = Contender(
    path=tunesmith_cluster.JOBS,
    made=tunesmith_cluster.a_job,
    started=_our_operator,
    account=tunesmith_cluster.ACCOUNT,
)
_RAY = "/apis/ray.io/v1/namespaces/{namespace}"
_KUBERAY = {
    "kubeRay": Contender(f"{_RAY}/rayjobs", _ray_job, _nobody),
    "kubeRayClusters": Contender(f"{_RAY}/rayclusters", _ray_cluster, _nobody),
}
_PLAIN_KOPF = Contender(
    path=f"/apis/{plain_operator.GROUP}/v1/namespaces/{{namespace}}/plainjobs",
    made=_plain_job,
    started=_plain_operator,
    account=PLAIN,
)


def measure(home: Path) -> dict[str, Any]:
    """Seconds, writes, processor time and memory of each, and times the Job controller's time."""
    lacking = control_plane.missing()
    if lacking:
        return {"skipped": lacking}
    place = home / "controller"
    place.mkdir(parents=True, exist_ok=True)
    tunesmith_cluster.install()
    _install_plain()
    with control_plane.fake_nodes(place / "kwok.log"):
        contenders = {
            "jobController": _JOB_CONTROLLER,
            "tunesmith": _TUNESMITH,
            "plainKopf": _PLAIN_KOPF,
            **(_KUBERAY if _kuberay_runs() else {}),
            "jobControllerAgain": _JOB_CONTROLLER,
            "requestsAlone": _requests_alone(place),
        }
        found = {name: _run(name, each, place) for name, each in contenders.items()}
    base = (found["jobController"]["seconds"] + found["jobControllerAgain"]["seconds"]) / 2
    times = {name: round(each["seconds"] / base, 2) for name, each in found.items()}
    return {"jobs": NUM_JOBS, **found, "timesJobController": times, "targets": TARGETS}


def _requests_alone(home: Path) -> Contender:
    recording = requests_alone.record(tunesmith_cluster.a_claim, home)
    return replace(
        _TUNESMITH,
        started=_nobody,
        account="",
        then=partial(requests_alone.repeat, recording=recording),
    )


def _kuberay_runs() -> bool:
    """Whether somebody takes up a RayJob: its definition may be there without an operator."""
    with control_plane.a_namespace(f"bench-{uuid4().hex[:6]}") as namespace:
        try:
            job = _ray_job("probe")
            job["metadata"]["namespace"] = namespace
            control_plane.apply(job)
            state = "--for=jsonpath={.status.jobDeploymentStatus}"
            control_plane.kubectl("wait", "-n", namespace, state, "--timeout=20s", "rayjob/probe")
        except RuntimeError as error:
            print(f"bench: controllerScale: no KubeRay: {error}", file=sys.stderr, flush=True)
            return False
        return True


def _install_plain() -> None:
    names = {"kind": "PlainJob", "plural": "plainjobs", "singular": "plainjob"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    version |= {"schema": {"openAPIV3Schema": schema}}
    crd: Manifest = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"plainjobs.{plain_operator.GROUP}"},
        "spec": {
            "group": plain_operator.GROUP,
            "names": names,
            "scope": "Namespaced",
            "versions": [version],
        },
    }
    control_plane.apply(crd)
    control_plane.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", f"crd/{crd['metadata']['name']}"
    )
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    give_rights(PLAIN, [everything])


def _run(name: str, contender: Contender, home: Path) -> dict[str, Any]:
    print(f"bench: controllerScale: {name}", file=sys.stderr, flush=True)
    namespace = f"bench-{uuid4().hex[:6]}"
    with control_plane.a_namespace(namespace), contender.started(namespace, home) as pid:
        control_plane.apply(tunesmith_cluster.a_claim(namespace))
        with control_plane.proxied() as address:
            return asyncio.run(_measured(contender, namespace, pid, address=address))


async def _measured(
    contender: Contender, namespace: str, pid: int | None, *, address: str
) -> dict[str, Any]:
    names = [f"job-{index}" for index in range(NUM_JOBS)]
    async with aiohttp.ClientSession(address) as session:
        await _bring_up(session, contender, namespace, names=["warm-up"], there=0)
        log = AuditLog()
        before = usage_of(pid) if pid else None
        begun = time.monotonic()
        times = await _bring_up(session, contender, namespace, names=names, there=1)
        after = usage_of(pid) if pid else None
    result: dict[str, Any] = {
        "seconds": round(times[-1] - begun, 1),
        "medianSeconds": round(times[len(times) // 2] - begun, 1),
    }
    if before and after:
        result["cpuSeconds"] = round(after.cpu_s - before.cpu_s, 1)
        result["peakMiB"] = after.peak_mib
    await asyncio.sleep(1)  # the audit log is written a moment later
    return result | _per_job(log.writes(), contender.account)


async def _bring_up(
    session: aiohttp.ClientSession,
    contender: Contender,
    namespace: str,
    *,
    names: list[str],
    there: int,
) -> list[float]:
    """Create the objects; return when the pods ran, those that were there before among them."""
    made = [contender.made(name) for name in names]
    path = contender.path.format(namespace=namespace)
    count = len(names) + there
    running_at = control_plane.wait_for_running(
        session, namespace, count=count, timeout_s=TIMEOUT_S
    )
    times, _ = await asyncio.gather(running_at, _create(session, contender, path, made))
    return times


async def _create(
    session: aiohttp.ClientSession, contender: Contender, path: str, made: list[Manifest]
) -> None:
    there = await control_plane.create(session, path, made)
    if contender.then is not None:
        await contender.then(session, there)


def _per_job(writes: dict[str, dict[str, int]] | None, account: str) -> dict[str, Any]:
    """Writes of each user that has some to do with jobs, and of which resources ours are."""
    if writes is None:
        return {"writesPerJob": None}
    totals = {user: round(sum(each.values()) / NUM_JOBS, 2) for user, each in writes.items()}
    found: dict[str, Any] = {"writesPerJob": {user: n for user, n in totals.items() if n >= _SOME}}
    if account:
        found["operatorWrites"] = writes.get(user_of(account), {})
    return found
