"""What is to be seen of the attempts of a job: its children, their pods, and the report.

Results stand in the report, which the job's pods write: one counts if the attempt's Job has ended
as it says, and from then on for as long as it has the digest that the operator noted in the status.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tunesmith_api.finetunejob.status import Progress
from tunesmith_engine.lifecycle.observations import AttemptSeen, Waiting
from tunesmith_engine.planning.records import Plan, PlannedStage
from tunesmith_engine.stages.contracts import StageName, StageResult
from tunesmith_operator.controller.child_cache import Reader
from tunesmith_operator.finetunejob.child_names import (
    LABEL_ATTEMPT,
    LABEL_JOB_NAME,
    Child,
    family_name,
    report_key,
)
from tunesmith_operator.finetunejob.manifests import Owner, owners_of
from tunesmith_operator.kube.attempt_times import AttemptTimes, times_of, times_of_rayjob
from tunesmith_operator.kube.client import Cluster, Manifest
from tunesmith_operator.kube.kueue import is_queued, is_waking, let_in_at, queue_wait
from tunesmith_operator.kube.pod_waits import unready, waiting_of
from tunesmith_operator.kube.pods import PodEnding, ending_of_pods, has_condition
from tunesmith_operator.kube.ray_job import (
    ending_of_rayjob,
    has_failed,
    has_succeeded,
    remaining,
    waiting_of_rayjob,
)

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that the status knows of, with its result's digest once it has succeeded.

    `names` are the kinds and names under which its child may be.
    """

    number: int
    result_digest: str | None
    names: list[Child]


class Observer:
    """Sees one job once. `finished` and `has_report` are known after it has looked."""

    def __init__(self, plan: Plan, cluster: Cluster, reader: Reader, *, owner: Owner) -> None:
        self._plan = plan
        self._cluster = cluster
        self._reader = reader
        self._owner = owner
        self.finished: dict[str, StageResult] = {}
        self.has_report = False

    async def observe(
        self, begun: Mapping[PlannedStage, Begun], *, now: datetime
    ) -> list[AttemptSeen]:
        """The attempts that have not been noted as finished, as they are at `now`."""
        jobs = {
            planned: job
            for planned, attempt in begun.items()
            if attempt.result_digest is None and (job := await self._job(attempt)) is not None
        }
        # A stage reports before its Job ends: read first, the report could lack what the Job knows.
        report = await self._report()
        for planned, attempt in begun.items():
            if attempt.result_digest is not None:
                self._take_noted(planned, attempt, report)
        seen = [
            await self._attempt(planned, begun[planned].number, report, job=job, now=now)
            for planned, job in jobs.items()
        ]
        self._reader.finish()
        return seen

    async def _job(self, attempt: Begun) -> Manifest | None:
        """The child of the attempt; it stays what it was started as."""
        for kind, name in attempt.names:
            found = await self._reader.get(kind, self._owner.namespace, name)
            if found is not None:
                return found
        return None

    async def _report(self) -> dict[str, str]:
        namespace, name = self._owner.namespace, family_name(self._owner.name)
        found = await self._reader.get("ConfigMap", namespace, name)
        # An earlier job of this name may have left one that is about to go.
        self.has_report = found is not None and self._owner.uid in owners_of(found)
        return dict(found.get("data") or {}) if found and self.has_report else {}

    def _take_noted(self, planned: PlannedStage, attempt: Begun, report: dict[str, str]) -> None:
        result = _result(planned, attempt.number, report, outcome="Succeeded")
        if result is not None and result.digest == attempt.result_digest:
            self.finished[planned.key] = result

    async def _attempt(
        self,
        planned: PlannedStage,
        number: int,
        report: dict[str, str],
        *,
        job: Manifest,
        now: datetime,
    ) -> AttemptSeen:
        pods = await self._pods(job)
        is_done = has_succeeded(job) if _is_ray(job) else has_condition(job, "Complete")
        if is_done:
            return self._completed(planned, number, report, times=_times_of(job, pods))
        ending = _ending_of(job, pods)
        if ending is not None:
            return self._failed(planned, number, report, ending=ending, job=job, pods=pods)
        let_in = await self._let_in(job)
        return AttemptSeen(
            planned.name,
            planned.key,
            number,
            is_running=True,
            progress=_progress(planned, number, report),
            waiting=await self._waiting(planned.name, job, pods, let_in=let_in, now=now),
            **asdict(_times_of(job, pods, let_in=let_in)),
        )

    async def _pods(self, job: Manifest) -> list[Manifest]:
        """The pods of a Job or RayJob, the newest last."""
        label = LABEL_ATTEMPT if _is_ray(job) else LABEL_JOB_NAME
        labels = f"{label}={job['metadata']['name']}"
        found = await self._reader.list("Pod", self._owner.namespace, labels=labels)
        return sorted(found, key=lambda each: str(each["metadata"]["creationTimestamp"]))

    async def _let_in(self, job: Manifest) -> datetime | None:
        """When its queue let it run, while Kueue alone knows: each read costs a list of its own."""
        return let_in_at(job, await self._workloads(job)) if is_waking(job) else None

    async def _workloads(self, job: Manifest) -> list[Manifest] | None:
        uid = job["metadata"]["uid"]
        return await self._cluster.workloads(self._owner.namespace, of_uid=uid)

    async def _waiting(
        self,
        stage: str,
        job: Manifest,
        pods: list[Manifest],
        *,
        let_in: datetime | None,
        now: datetime,
    ) -> Waiting | None:
        if is_queued(job):
            return queue_wait(stage, job, await self._workloads(job))
        warnings = await self._warnings(unready(pods, now=now))
        if not _is_ray(job):
            return waiting_of(stage, job, pods, warnings, let_in=let_in)
        return waiting_of_rayjob(
            stage,
            job,
            pods,
            num_pods=1 + self._plan.spec.resources.workers,
            now=now,
            warnings=warnings,
            let_in=let_in,
        )

    async def _warnings(self, pod: Manifest | None) -> list[Manifest] | None:
        """What was said of a pod that does not get ready: each read costs a list of Events."""
        if pod is None:
            return None
        uid = pod["metadata"]["uid"]
        return await self._cluster.warnings(self._owner.namespace, of_uid=uid)

    def _completed(
        self, planned: PlannedStage, number: int, report: dict[str, str], *, times: AttemptTimes
    ) -> AttemptSeen:
        result = _result(planned, number, report, outcome="Succeeded")
        if result is not None:
            self.finished[planned.key] = result
        return AttemptSeen(
            planned.name,
            planned.key,
            number,
            is_running=False,
            result=result,
            exit_code=0,
            **asdict(times),
        )

    def _failed(
        self,
        planned: PlannedStage,
        number: int,
        report: dict[str, str],
        *,
        ending: PodEnding,
        job: Manifest,
        pods: list[Manifest],
    ) -> AttemptSeen:
        return AttemptSeen(
            planned.name,
            planned.key,
            number,
            is_running=False,
            progress=_progress(planned, number, report),
            result=_result(planned, number, report, outcome="Failed"),
            exit_code=ending.exit_code,
            cause=ending.cause,
            termination_message=ending.termination_message,
            log=self._log(job),
            **asdict(_times_of(job, pods)),
        )

    def _log(self, job: Manifest) -> str:
        """How a person reads the log; that of a RayJob goes with its pods, but for what it says."""
        kind, name = job["kind"].lower(), job["metadata"]["name"]
        verb = "describe" if kind == "rayjob" else "logs"
        return f"kubectl {verb} -n {self._owner.namespace} {kind}/{name}"


def _is_ray(job: Manifest) -> bool:
    kind: str = job["kind"]
    return kind == "RayJob"


def _times_of(
    job: Manifest, pods: list[Manifest], *, let_in: datetime | None = None
) -> AttemptTimes:
    times = times_of_rayjob if _is_ray(job) else times_of
    return times(job, pods, let_in=let_in)


def _ending_of(job: Manifest, pods: list[Manifest]) -> PodEnding | None:
    """How a child ended that did not complete; None if it has not, or pods of it are left."""
    if _is_ray(job):
        is_over = has_failed(job) and not remaining(pods)
        return ending_of_rayjob(job) if is_over else None
    return ending_of_pods(job, pods) if has_condition(job, "Failed") else None


def _progress(planned: PlannedStage, number: int, report: dict[str, str]) -> Progress | None:
    name = report_key(planned.name, number, "progress", key=planned.key)
    return _read(Progress, report.get(name, ""))


def _result(
    planned: PlannedStage, number: int, report: dict[str, str], *, outcome: str
) -> StageResult | None:
    """What the attempt reported, if it is of this attempt and says how the Job has ended."""
    name = report_key(planned.name, number, "result", key=planned.key)
    result = _read(StageResult, report.get(name, ""))
    if result is None or result.outcome != outcome:
        return None
    told = (result.stage, result.key, result.attempt)
    return result if told == (StageName(planned.name), planned.key, number) else None


def _read(model: type[M], text: str) -> M | None:
    """A record of a stage; one that breaks its schema does not count."""
    if not text:
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError:
        return None
