"""The executor of a cluster: a batch Job, or a RayJob, per attempt.

It sees and does, and decides nothing, as the local one. What it knows lies in the API server.
Results stand in the report, which the job's pods write: one counts if the attempt's Job has ended
as it says, and from then on for as long as it has the digest that the operator noted in the status.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from datetime import datetime
from typing import TypeVar, assert_never

from pydantic import BaseModel, ValidationError

from tunesmith_api.reasons import Reason
from tunesmith_api.status import FineTuneJobStatus, Progress, StageStatus
from tunesmith_engine.lifecycle.records import (
    Action,
    AttemptSeen,
    Observations,
    Start,
    Stop,
    Waiting,
)
from tunesmith_engine.planning.records import Plan, PlannedStage
from tunesmith_engine.stages.cluster_report import report_address
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult
from tunesmith_operator.attempt_times import AttemptTimes, times_of, times_of_rayjob
from tunesmith_operator.cluster_client import Cluster, Manifest
from tunesmith_operator.identities import Identities
from tunesmith_operator.manifests import (
    SECRETS,
    WORKSPACE,
    Owner,
    attempt_of,
    family_of,
    owners_of,
    request_map,
)
from tunesmith_operator.names import (
    LABEL_ATTEMPT,
    LABEL_JOB,
    SELECTOR,
    Child,
    attempt_name,
    attempt_parts,
    family_name,
    may_be_rayjob,
    rayjob_name,
    report_key,
)
from tunesmith_operator.pods import PodEnding, ending_of_pods, has_condition, is_owned
from tunesmith_operator.queues import is_queued, queue_wait
from tunesmith_operator.ray_states import (
    ending_of_rayjob,
    has_failed,
    has_succeeded,
    is_over,
    remaining,
    waiting_of_rayjob,
)
from tunesmith_operator.rayjob import Place, place_of, rayjob_of
from tunesmith_operator.settings import Settings
from tunesmith_operator.waits import unready, waiting_of

M = TypeVar("M", bound=BaseModel)


class KubeExecutor:
    """Sees and does for one job."""

    def __init__(
        self,
        plan: Plan,
        cluster: Cluster,
        *,
        owner: Owner,
        settings: Settings,
        identities: Identities,
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._owner = owner
        self._settings = settings
        self._identities = identities
        self._finished: dict[str, StageResult] = {}
        self._has_family = False
        self._lacks_family = False
        self._lacks_pods = False

    async def observe(
        self,
        status: FineTuneJobStatus | None,
        *,
        now: datetime,
        heard: AbstractSet[Child] = frozenset(),
    ) -> Observations:
        """Everything that is to be seen at `now`; `status` says which attempts to look for.

        `heard` are the children that were told of and not of their end: what the status does not
        speak of is looked for, too.
        """
        known = {(each.name, each.key): each for each in status.stages} if status else {}
        begun = {
            planned: stage
            for planned in self._plan.stages
            if (stage := known.get((planned.name, planned.key))) and stage.attempt
        }
        jobs = {
            planned: await self._job(planned, stage.attempt)
            for planned, stage in begun.items()
            if stage.result_digest is None
        }
        # A stage reports before its Job ends: read first, the report could lack what the Job knows.
        report = await self._report() if begun else {}
        for planned, stage in begun.items():
            if stage.result_digest is not None:
                self._take_noted(planned, stage, report)
        seen = [
            await self._attempt(planned, begun[planned].attempt, report, job=job, now=now)
            for planned, job in jobs.items()
            if job is not None
        ]
        current = {
            child
            for planned in jobs
            for child in self._children(planned.name, planned.key, begun[planned].attempt)
        }
        seen += await self._beside(heard - current) if begun else await self._strays()
        self._lacks_family = not self._has_family and any(each.is_running for each in seen)
        self._lacks_pods = any(_lacks_pods(each.waiting, now=now) for each in seen)
        return Observations(finished=dict(self._finished), attempts=tuple(seen))

    async def apply(self, actions: Iterable[Action]) -> None:
        """Do what was decided, and give what was started back what somebody took away from it."""
        if self._lacks_family:
            await self._make_family()
        if self._lacks_pods:
            await self._identities.renew(self._owner)
        for action in actions:
            match action:
                case Start():
                    await self._start(action)
                case Stop():
                    for kind, name in self._children(action.stage, action.key, action.attempt):
                        await self._cluster.delete(kind, self._owner.namespace, name)
                case _:
                    assert_never(action)

    async def _start(self, action: Start) -> None:
        account = await self._identities.account_of(self._owner)
        if not self._has_family:
            await self._make_family()
        stage = self._plan.stage(action.stage)
        request = self._request(stage, attempt=action.attempt)
        large = request_map(self._owner, request)
        if large is not None:
            await self._cluster.apply(large)
        await self._cluster.create(await self._child(stage, request, account=account))

    async def _child(self, stage: PlannedStage, request: StageRequest, *, account: str) -> Manifest:
        place = await self._place_of_workers(stage)
        if place is Place.ONE_POD:
            return attempt_of(self._owner, stage, request, settings=self._settings, account=account)
        return rayjob_of(
            self._owner,
            stage,
            request,
            settings=self._settings,
            account=account,
            on_one_node=place is Place.ONE_NODE,
        )

    async def _make_family(self) -> None:
        workspace = self._plan.spec.workspace
        for each in family_of(self._owner, workspace=workspace, settings=self._settings):
            await self._cluster.apply(each)

    async def _strays(self) -> list[AttemptSeen]:
        """What runs of this job although its status knows of no attempt.

        Another release has started it, or somebody has emptied the status.
        """
        labels = f"{SELECTOR},{LABEL_JOB}={self._owner.name}"
        jobs = await self._cluster.list("Job", self._owner.namespace, labels=labels)
        if self._may_be_rayjob(StageName.TRAIN) and await self._cluster.serves("RayJob"):
            jobs += await self._cluster.list("RayJob", self._owner.namespace, labels=labels)
        return self._running(jobs)

    async def _beside(self, others: AbstractSet[Child]) -> list[AttemptSeen]:
        """What runs although its attempt is over: its start was late on its way to the server."""
        namespace = self._owner.namespace
        found = [await self._cluster.get(kind, namespace, name) for kind, name in sorted(others)]
        return self._running(each for each in found if each is not None)

    def _running(self, jobs: Iterable[Manifest]) -> list[AttemptSeen]:
        owned = (each for each in jobs if is_owned(each, by_uid=self._owner.uid))
        return [self._stray(each) for each in owned if not is_over(each)]

    def _stray(self, job: Manifest) -> AttemptSeen:
        stage, attempt, key = attempt_parts(job["metadata"]["name"])
        planned = self._plan.stage(StageName(stage))
        known = planned.key if planned.key.startswith(key) else key
        return AttemptSeen(planned.name, known, attempt, is_running=True)

    async def _place_of_workers(self, stage: PlannedStage) -> Place:
        if not self._may_be_rayjob(stage.name) or not await self._cluster.serves("RayJob"):
            return Place.ONE_POD
        name = self._plan.spec.workspace.claim_name or family_name(self._owner.name)
        claim = await self._cluster.get("PersistentVolumeClaim", self._owner.namespace, name)
        return place_of(claim)

    def _may_be_rayjob(self, stage: StageName) -> bool:
        is_shared = stage is StageName.TRAIN and self._plan.spec.resources.workers > 1
        return is_shared and may_be_rayjob(self._plan.job)

    def _children(self, stage: StageName, key: str, number: int) -> list[Child]:
        """Kind and name of everything that may be the child of this attempt."""
        job = self._plan.job
        children = [("Job", attempt_name(job, stage=stage, attempt=number, key=key))]
        if self._may_be_rayjob(stage):
            children.append(("RayJob", rayjob_name(job, attempt=number, key=key)))
        return children

    def _request(self, stage: PlannedStage, *, attempt: int) -> StageRequest:
        earlier = self._plan.stages[: self._plan.stages.index(stage)]
        folder = f"{WORKSPACE}/jobs/{self._plan.job}/stages/{stage.name}/{stage.short_key}"
        addresses = {
            kind: report_address(
                self._owner.namespace,
                family_name(self._owner.name),
                report_key(stage.name, attempt, kind),
            )
            for kind in ("progress", "result")
        }
        return StageRequest(
            job=self._plan.job,
            stage=stage.name,
            key=stage.key,
            attempt=attempt,
            spec=self._plan.spec,
            inputs={each.name: self._finished[each.key] for each in earlier},
            stage_keys={each.name: each.key for each in self._plan.stages},
            output=f"{folder}/artifacts",
            report=addresses["progress"],
            result=addresses["result"],
            base=WORKSPACE,
            cache=f"{WORKSPACE}/cache",
            secrets=SECRETS,
            models=f"{WORKSPACE}/models",
        )

    async def _report(self) -> dict[str, str]:
        namespace, name = self._owner.namespace, family_name(self._owner.name)
        found = await self._cluster.get("ConfigMap", namespace, name)
        # An earlier job of this name may have left one that is about to go.
        self._has_family = found is not None and self._owner.uid in owners_of(found)
        return dict(found.get("data") or {}) if found and self._has_family else {}

    def _take_noted(
        self, planned: PlannedStage, stage: StageStatus, report: dict[str, str]
    ) -> None:
        result = _result(planned, stage.attempt, report, outcome="Succeeded")
        if result is not None and result.digest == stage.result_digest:
            self._finished[planned.key] = result

    async def _job(self, planned: PlannedStage, number: int) -> Manifest | None:
        """The child of the attempt; it stays what it was started as."""
        for kind, name in self._children(planned.name, planned.key, number):
            found = await self._cluster.get(kind, self._owner.namespace, name)
            if found is not None:
                return found
        return None

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
        return AttemptSeen(
            planned.name,
            planned.key,
            number,
            is_running=True,
            progress=_progress(planned, number, report),
            waiting=await self._waiting(planned.name, job, pods, now=now),
            **asdict(_times_of(job, pods)),
        )

    async def _pods(self, job: Manifest) -> list[Manifest]:
        """The pods of a Job or RayJob, the newest last."""
        label = LABEL_ATTEMPT if _is_ray(job) else "batch.kubernetes.io/job-name"
        labels = f"{label}={job['metadata']['name']}"
        found = await self._cluster.list("Pod", self._owner.namespace, labels=labels)
        return sorted(found, key=lambda each: str(each["metadata"]["creationTimestamp"]))

    async def _waiting(
        self, stage: str, job: Manifest, pods: list[Manifest], *, now: datetime
    ) -> Waiting | None:
        if not is_queued(job):
            warnings = await self._warnings(unready(pods, now=now))
            if not _is_ray(job):
                return waiting_of(stage, job, pods, warnings)
            return waiting_of_rayjob(
                stage,
                job,
                pods,
                num_pods=1 + self._plan.spec.resources.workers,
                now=now,
                warnings=warnings,
            )
        uid = job["metadata"]["uid"]
        workloads = await self._cluster.workloads(self._owner.namespace, of_uid=uid)
        return queue_wait(stage, job, workloads)

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
            self._finished[planned.key] = result
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
            last_words=ending.last_words,
            log=self._log(job),
            **asdict(_times_of(job, pods)),
        )

    def _log(self, job: Manifest) -> str:
        """How a person reads the log; that of a RayJob goes with its pods, but for what it says."""
        kind, name = job["kind"].lower(), job["metadata"]["name"]
        verb = "describe" if kind == "rayjob" else "logs"
        return f"kubectl {verb} -n {self._owner.namespace} {kind}/{name}"


def _lacks_pods(waiting: Waiting | None, *, now: datetime) -> bool:
    if waiting is None or waiting.reason is not Reason.POD_NOT_CREATED:
        return False
    return now >= waiting.told_at


def _is_ray(job: Manifest) -> bool:
    kind: str = job["kind"]
    return kind == "RayJob"


def _times_of(job: Manifest, pods: list[Manifest]) -> AttemptTimes:
    return times_of_rayjob(job, pods) if _is_ray(job) else times_of(job, pods)


def _ending_of(job: Manifest, pods: list[Manifest]) -> PodEnding | None:
    """How a child ended that did not complete; None if it has not, or pods of it are left."""
    if _is_ray(job):
        is_over = has_failed(job) and not remaining(pods)
        return ending_of_rayjob(job) if is_over else None
    return ending_of_pods(job, pods) if has_condition(job, "Failed") else None


def _progress(planned: PlannedStage, number: int, report: dict[str, str]) -> Progress | None:
    return _read(Progress, report.get(report_key(planned.name, number, "progress"), ""))


def _result(
    planned: PlannedStage, number: int, report: dict[str, str], *, outcome: str
) -> StageResult | None:
    """What the attempt reported, if it is of this attempt and says how the Job has ended."""
    result = _read(StageResult, report.get(report_key(planned.name, number, "result"), ""))
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
