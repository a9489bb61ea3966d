"""Jobs and deployments at rest for hours: does the operator grow, does it write, does it lag?

Each job waits for its first stage, whose pod runs on a fake node and never ends; each deployment
has a version whose replica runs there and never answers. So nothing happens, and what the operator
does all the same it does for nothing. Hours are simulated: an operator that looks at what is at
rest `BENCH_SOAK_SPEED` times as often (`faster_operator.py`), for so many times as short a time.

By default small; the promise is measured with `BENCH_SOAK_JOBS=1000 BENCH_SOAK_DEPLOYMENTS=100
BENCH_SOAK_MINUTES=12 BENCH_SOAK_SPEED=10`.
"""

import asyncio
import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiohttp
import control_plane
import tunesmith_cluster
from control_plane import AuditLog, Manifest
from operator_runs import usage_of, user_of

TARGETS: Final = {"writesPerObjectAndHour": 0.1, "queueP99Seconds": 1.0}
_GROUP: Final = "/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}"
_SAMPLE_S: Final = 2.0
_SETTLE_S: Final = 30.0
# Samples that follow each other are alike; the means of so many blocks are nearly independent.
_BLOCKS: Final = 10
# Of Student's t with _BLOCKS - 2 degrees of freedom, two-sided, at 95 %.
_T: Final = 2.306
_WAITED: Final = "workqueue_queue_duration_seconds_bucket"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is looked at, for how long, and how many times as fast."""

    jobs: int
    deployments: int
    minutes: float
    speed: float

    @classmethod
    def given(cls) -> "Size":
        """What the environment asks for."""
        jobs, deployments = (
            int(os.environ.get(f"BENCH_SOAK_{name}", default))
            for name, default in (("JOBS", "50"), ("DEPLOYMENTS", "5"))
        )
        minutes, speed = (
            float(os.environ.get(f"BENCH_SOAK_{name}", default))
            for name, default in (("MINUTES", "3"), ("SPEED", "20"))
        )
        return cls(jobs, deployments, minutes, speed)

    @property
    def hours(self) -> float:
        """Simulated hours."""
        return self.minutes / 60 * self.speed


def measure(home: Path) -> dict[str, Any]:
    """The slope of resident memory with its interval, writes, looks, and the queue's latency."""
    lacking = control_plane.missing()
    if lacking:
        return {"skipped": lacking}
    place, size = home / "soak", Size.given()
    place.mkdir(parents=True, exist_ok=True)
    tunesmith_cluster.install()
    with (
        control_plane.fake_nodes(place / "kwok.log"),
        control_plane.a_namespace(f"bench-{uuid4().hex[:6]}") as namespace,
        tunesmith_cluster.an_operator(namespace, place, speed=size.speed) as operator,
    ):
        control_plane.apply(tunesmith_cluster.a_claim(namespace))
        with control_plane.proxied() as address:
            asyncio.run(_make(address, namespace, size))
        operator.wait_for_looks(size.jobs)
        time.sleep(_SETTLE_S)
        return _watched(operator, size)


async def _make(address: str, namespace: str, size: Size) -> None:
    group = _GROUP.format(namespace=namespace)
    jobs = [tunesmith_cluster.a_job(f"job-{n}") for n in range(size.jobs)]
    deployments = [_deployment(f"deployment-{n}") for n in range(size.deployments)]
    async with aiohttp.ClientSession(address) as session:
        await control_plane.create(session, f"{group}/modelversions", [_version()])
        await control_plane.create(session, f"{group}/finetunejobs", jobs)
        await control_plane.create(session, f"{group}/modeldeployments", deployments)
        count = size.jobs + size.deployments
        await control_plane.wait_for_running(session, namespace, count=count, timeout_s=600)


def _watched(operator: tunesmith_cluster.Operator, size: Size) -> dict[str, Any]:
    print(f"bench: soak: {size.hours:.1f} hours in {size.minutes:g} min", file=sys.stderr)
    log, metrics, before = AuditLog(), operator.metrics(), usage_of(operator.pid)
    begun = time.monotonic()
    samples: list[tuple[float, float]] = []
    while (now := time.monotonic() - begun) < 60 * size.minutes:
        samples.append((now * size.speed / 3600, usage_of(operator.pid).memory_mib))
        time.sleep(_SAMPLE_S)
    after, grown = usage_of(operator.pid), _growth(metrics, operator.metrics())
    time.sleep(1)  # the audit log is written a moment later
    slope, margin = slope_of(samples)
    writes = log.writes()
    ours = None if writes is None else writes.get(user_of(tunesmith_cluster.ACCOUNT), {})
    objects = size.jobs + size.deployments
    looks = sum(n for name, n in grown.items() if name.startswith("controller_runtime_reconcile_t"))
    return {
        "jobs": size.jobs,
        "deployments": size.deployments,
        "simulatedHours": round(size.hours, 2),
        "speed": size.speed,
        "memoryMiB": [before.memory_mib, after.memory_mib],
        "slopeMiBPerHour": round(slope, 2),
        "slopeInterval95": [round(slope - margin, 2), round(slope + margin, 2)],
        "writes": ours,
        "writesPerObjectAndHour": None
        if ours is None
        else round(sum(ours.values()) / objects / size.hours, 3),
        "looksPerObjectAndHour": round(looks / objects / size.hours, 1),
        "failedLooks": sum(n for name, n in grown.items() if 'result="error"' in name),
        "queueP99Seconds": quantile_of(grown, _WAITED, 0.99),
        "cpuShare": round((after.cpu_s - before.cpu_s) / (60 * size.minutes), 3),
        "targets": TARGETS,
    }


def slope_of(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least squares of the blocks' means, per unit of time, and half the width of its interval."""
    per_block = len(samples) // _BLOCKS
    blocks = [samples[n * per_block : (n + 1) * per_block] for n in range(_BLOCKS)]
    xs, ys = ([statistics.fmean(each[i] for each in block) for block in blocks] for i in (0, 1))
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return slope, _T * math.sqrt(rest / (_BLOCKS - 2) / spread)


def quantile_of(grown: Mapping[str, float], name: str, part: float) -> float | None:
    """The boundary below which that part of a histogram lies, of all kinds together."""
    counts: dict[float, float] = {}
    for series, count in grown.items():
        if series.startswith(f"{name}{{"):
            boundary = float(series.partition('le="')[2].partition('"')[0])
            counts[boundary] = counts.get(boundary, 0.0) + count
    total = counts.get(math.inf, 0.0)
    found = (boundary for boundary, count in sorted(counts.items()) if count >= part * total)
    return next(found) if total else None


def _growth(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def _version() -> Manifest:
    digest = f"sha256:{'0' * 64}"
    lineage = {"job": "bench", "baseModel": "hf://a/b", "baseRevision": "main"}
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": "bench-v1"},
        "spec": {
            "model": "bench",
            "version": "v1",
            "uri": "s3://models/bench/v1",
            "digest": digest,
            "scheme": "bf16",
            "files": [],
            "lineage": {**lineage, "dataDigest": digest},
        },
    }


def _deployment(name: str) -> Manifest:
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": "bench", "replicas": 1, "rollout": {"strategy": "blueGreen"}},
    }
