"""The executor of a cluster: a batch Job, or a RayJob, per attempt.

It sees and does, and decides nothing, as the local one. What it knows lies in the API server.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import assert_never

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import (
    Action,
    AttemptSeen,
    Observations,
    Start,
    Stop,
    Waiting,
)
from tunesmith_engine.planning.records import Plan, PlannedStage
from tunesmith_engine.stages.configmap_reporter import report_address
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult
from tunesmith_operator.controller.child_cache import Children, Reader
from tunesmith_operator.finetunejob.child_names import (
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
from tunesmith_operator.finetunejob.manifests import (
    SECRETS,
    WORKSPACE,
    Owner,
    attempt_of,
    family_of,
    owners_of,
    request_map,
    store_of,
)
from tunesmith_operator.finetunejob.observer import Begun, Observer
from tunesmith_operator.finetunejob.placement import given_memory
from tunesmith_operator.finetunejob.rayjob_manifest import Place, place_of, rayjob_of
from tunesmith_operator.finetunejob.service_accounts import Identities
from tunesmith_operator.kube.client import CONFLICT, Cluster, Manifest
from tunesmith_operator.kube.pods import is_owned
from tunesmith_operator.kube.ray_job import is_over
from tunesmith_operator.settings import Settings


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
        told: Children,
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._owner = owner
        self._settings = settings
        self._identities = identities
        self._told = told
        self._key = (owner.namespace, owner.name)
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
        begun = self._begun(status)
        if not begun:
            return Observations(attempts=tuple(await self._strays()))
        names = [each.names for each in begun.values() if each.result_digest is None]
        observer = Observer(self._plan, self._cluster, self._reader(names), owner=self._owner)
        seen = await observer.observe(begun, now=now)
        self._finished, self._has_family = observer.finished, observer.has_report
        seen += await self._beside(heard - {each for some in names for each in some})
        self._lacks_family = not self._has_family and any(each.is_running for each in seen)
        self._lacks_pods = any(_lacks_pods(each.waiting, now=now) for each in seen)
        return Observations(finished=dict(self._finished), attempts=tuple(seen))

    def _begun(self, status: FineTuneJobStatus | None) -> dict[PlannedStage, Begun]:
        """The stages that have an attempt, with what is known of it."""
        known = {(each.name, each.key): each for each in status.stages} if status else {}
        return {
            planned: Begun(
                stage.attempt,
                stage.result_digest,
                self._children(planned.name, planned.key, stage.attempt),
            )
            for planned in self._plan.stages
            if (stage := known.get((planned.name, planned.key))) and stage.attempt
        }

    def _reader(self, attempts: list[list[Child]]) -> Reader:
        return self._told.reader(self._cluster, self._key, uid=self._owner.uid, attempts=attempts)

    async def apply(self, actions: Iterable[Action]) -> bool:
        """Do what was decided, and give what was started back what somebody took away from it.

        Return whether there will be news, of a child that is new.
        """
        is_new = False
        if self._lacks_family:
            await self._make_family()
        if self._lacks_pods:
            await self._identities.renew(self._owner)
        for action in actions:
            match action:
                case Start():
                    is_new |= await self._start(action)
                case Stop():
                    # A watch may miss that it has gone.
                    self._told.forget(self._key)
                    for kind, name in self._children(action.stage, action.key, action.attempt):
                        await self._cluster.delete(kind, self._owner.namespace, name)
                case _:
                    assert_never(action)
        return is_new

    async def _start(self, action: Start) -> bool:
        account = await self._identities.account_of(self._owner)
        if not self._has_family:
            await self._make_family()
        stage = self._plan.stage(action.stage)
        request = self._request(stage, attempt=action.attempt)
        large = request_map(self._owner, request)
        if large is not None:
            await self._cluster.apply(large)
        return await self._cluster.create(await self._child(stage, request, account=account))

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
            await self._refuse_anothers(each)
            await self._cluster.apply(each)

    async def _refuse_anothers(self, manifest: Manifest) -> None:
        """Wait for what a deleted job of this name has left: the garbage collector is on its way.

        An apply would make it ours.
        """
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        found = await self._cluster.get(kind, self._owner.namespace, name)
        owners = owners_of(found) if found else set()
        if owners and self._owner.uid not in owners:
            raise ApiException(status=CONFLICT, reason=f"{kind} {name} is of a deleted job")

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
        spec = self._plan.spec
        is_shared = stage is StageName.TRAIN and spec.resources.workers > 1
        # Pods of a RayJob share a volume, and a store is none.
        return is_shared and spec.workspace.uri is None and may_be_rayjob(self._plan.job)

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
                report_key(stage.name, attempt, kind, key=stage.key),
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
            memory=given_memory(self._plan.spec.resources),
            store=store_of(self._owner, self._plan.spec.workspace),
        )


def _lacks_pods(waiting: Waiting | None, *, now: datetime) -> bool:
    if waiting is None or waiting.reason is not Reason.POD_NOT_CREATED:
        return False
    return now >= waiting.told_at
