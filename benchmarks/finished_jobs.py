"""5,000 jobs that are over: what an operator that has nothing to do with them costs.

The benchmark writes their status itself, as `advance` would have left it. An operator is then
started among them, and once it has looked at each, its writes, processor time and memory are taken
for longer than the five to six minutes after which it looks at jobs again that are not over. Memory
is compared with that of an operator without jobs.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import control_plane
import tunesmith_cluster
from control_plane import AuditLog, Manifest
from operator_runs import usage_of, user_of

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.results import Artifact, EvaluationResult
from tunesmith_engine.lifecycle.advance import advance
from tunesmith_engine.lifecycle.observations import Observations
from tunesmith_engine.planning.plan import PlannedStage, plan
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_operator.finetunejob.parsing import fingerprints_of
from tunesmith_operator.finetunejob.step import RESYNC_S

NUM_JOBS = 5000
PERIOD_S = 1.25 * RESYNC_S
SETTLE_S = 20
TARGETS = {"writes": 0, "moreMiB": 200}


def measure(home: Path) -> dict[str, Any]:
    """Memory without and with the jobs, and writes and processor seconds of a period."""
    lacking = control_plane.missing()
    if lacking:
        return {"skipped": lacking}
    place = home / "finished"
    place.mkdir(parents=True, exist_ok=True)
    tunesmith_cluster.install()
    with control_plane.a_namespace(f"bench-{uuid4().hex[:6]}") as namespace:
        with tunesmith_cluster.an_operator(namespace, place) as operator:
            time.sleep(SETTLE_S)
            idle = usage_of(operator.pid)
        _say(f"making {NUM_JOBS} jobs")
        with control_plane.proxied() as address:
            asyncio.run(_make(address, namespace))
        with tunesmith_cluster.an_operator(namespace, place) as operator:
            return _watched(operator, idle_mib=idle.memory_mib)


def _watched(operator: tunesmith_cluster.Operator, *, idle_mib: float) -> dict[str, Any]:
    begun = time.monotonic()
    operator.wait_for_looks(NUM_JOBS)
    looked_s = time.monotonic() - begun
    log, before = AuditLog(), usage_of(operator.pid)
    _say(f"watching for {PERIOD_S:.0f} s")
    time.sleep(PERIOD_S)
    after, writes = usage_of(operator.pid), log.writes()
    ours = None if writes is None else writes.get(user_of(tunesmith_cluster.ACCOUNT), {})
    return {
        "jobs": NUM_JOBS,
        "idleMiB": idle_mib,
        "withJobsMiB": after.memory_mib,
        "moreMiB": round(after.memory_mib - idle_mib, 1),
        "peakMiB": after.peak_mib,
        "secondsToLookAtAll": round(looked_s, 1),
        "cpuSecondsToLookAtAll": round(before.cpu_s, 1),
        "periodSeconds": PERIOD_S,
        "writesInPeriod": ours,
        "cpuSecondsInPeriod": round(after.cpu_s - before.cpu_s, 1),
        "targets": TARGETS,
    }


async def _make(address: str, namespace: str) -> None:
    path = tunesmith_cluster.JOBS.format(namespace=namespace)
    jobs = [tunesmith_cluster.a_job(f"job-{index}") for index in range(NUM_JOBS)]
    async with aiohttp.ClientSession(address) as session:
        made = await control_plane.create(session, path, jobs)
        await control_plane.put_statuses(session, path, list(map(_finished, made)))


def _finished(job: Manifest) -> Manifest:
    """The job with the status of one that has succeeded."""
    parsed = FineTuneJob.model_validate(job)
    planned = plan(
        parsed, fingerprints=fingerprints_of(parsed.spec, uid=str(job["metadata"]["uid"]))
    )
    seen = Observations(finished={each.key: _result(each) for each in planned.stages})
    now = datetime.now(UTC)
    status = advance(planned, FineTuneJobStatus(start_time=now), seen, now=now).status
    return job | {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}


def _result(stage: PlannedStage) -> StageResult:
    digest = f"sha256:{'0' * 64}"
    return StageResult(
        stage=stage.name,
        key=stage.key,
        attempt=1,
        outcome="Succeeded",
        reason="Succeeded",
        message=f"{stage.name} is done",
        artifacts=[
            Artifact(name=f"{stage.name}-{n}", uri=f"s3://bucket/{n}", digest=digest, bytes=1)
            for n in range(2)
        ],
        evaluation=[
            EvaluationResult(suite="heldOut", split=stage.name, metric="loss", value=1.0, n=100)
        ],
        versions={"transformers": "5.19.0", "torch": "2.13.0"},
        seconds=60.0,
    )


def _say(what: str) -> None:
    print(f"bench: finishedJobs: {what}", file=sys.stderr, flush=True)
