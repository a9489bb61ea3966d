"""The executor of a cluster: a batch Job, or a RayJob, per attempt.

It does what was decided and decides nothing, as the local one. What it knows lies in the API server
and in the `Snapshot` of this look.
"""

from collections.abc import Iterable
from typing import assert_never

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_engine.lifecycle.observations import Action, Start, Stop
from tunesmith_engine.planning.plan import Plan, PlannedStage
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_operator.controller.child_cache import ChildCache
from tunesmith_operator.finetunejob.attempts import may_run_in_rayjob, possible_children
from tunesmith_operator.finetunejob.child_names import shared_name
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.finetunejob.manifests import (
    StageAttempt,
    batch_job_of,
    request_map,
    request_of,
    shared_objects,
)
from tunesmith_operator.finetunejob.observer import Snapshot
from tunesmith_operator.finetunejob.rayjob_manifest import (
    WorkerPlacement,
    rayjob_of,
    worker_placement,
)
from tunesmith_operator.finetunejob.service_accounts import StageAccounts
from tunesmith_operator.kube.api_errors import NOT_FOUND, is_invalid
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.kube.ownership import delete_ours, make_ours
from tunesmith_operator.kube.resources import CONFIG_MAP, RAY_JOB
from tunesmith_operator.settings import Settings


class StartRefusedError(Exception):
    """The API server finds what an attempt needs invalid; it would say so each time."""

    def __init__(self, start: Start, error: ApiException) -> None:
        super().__init__(str(error))
        self.start = start
        self.error = error


class KubeExecutor:
    """Starts and stops attempts of one job."""

    def __init__(
        self,
        plan: Plan,
        client: KubeClient,
        *,
        owner: JobRef,
        settings: Settings,
        accounts: StageAccounts,
        children: ChildCache,
    ) -> None:
        self._plan = plan
        self._client = client
        self._owner = owner
        self._settings = settings
        self._accounts = accounts
        self._children = children

    async def apply(self, actions: Iterable[Action], snapshot: Snapshot) -> bool:
        """Do what was decided, and give what was started back what somebody took away from it.

        Return whether a child was created: of one that is new there will be news.

        Raises:
            StartRefusedError: an attempt can never start as it is.
            kubernetes.aio.client.exceptions.ApiException: the server refuses, or is away.
        """
        if snapshot.lacks_report:
            await self._ensure_shared_objects()
        if snapshot.lacks_pods:
            await self._accounts.renew(self._owner)
        has_created = False
        for action in actions:
            match action:
                case Start():
                    has_created |= await self._started(action, snapshot)
                case Stop():
                    await self._stop(action)
                case _:
                    assert_never(action)
        if snapshot.report_cleanup is not None:
            await self._clean_report(snapshot.report_cleanup)
        return has_created

    async def _clean_report(self, change: Manifest) -> None:
        name = shared_name(self._owner.name)
        try:
            await self._client.patch(CONFIG_MAP.kind, self._owner.namespace, name, change)
        except ApiException as error:
            # It was taken away or replaced since the look, which is no fault of the job.
            if error.status != NOT_FOUND and not is_invalid(error):
                raise

    async def _started(self, action: Start, snapshot: Snapshot) -> bool:
        try:
            return await self._start(action, snapshot)
        except ApiException as error:
            if is_invalid(error):
                raise StartRefusedError(action, error) from error
            raise

    async def _start(self, action: Start, snapshot: Snapshot) -> bool:
        # NB: the order. A pod cannot be made without its account, and waits without its volume; the
        # child comes last, so that whatever a crash leaves out is made by the start that repeats.
        account = await self._accounts.account_of(self._owner)
        if not snapshot.has_report:
            await self._ensure_shared_objects()
        stage = self._plan.stage(action.stage)
        placement = await self._placement_of_workers(stage)
        request = request_of(
            self._plan,
            stage,
            owner=self._owner,
            attempt=action.attempt,
            finished=snapshot.observations.finished,
            in_pods_of_their_own=placement is not WorkerPlacement.ONE_POD,
        )
        large = request_map(self._owner, request)
        if large is not None:
            await make_ours(self._client, large)
        # For the estimate of memory, whether or not the stage itself reads that result.
        prepared = snapshot.observations.finished.get(self._plan.stage(PREPARE.name).key)
        # Those of all stages before the first of them works: an image that cannot be pulled would
        # else be noticed after hours of training.
        is_first = stage == self._plan.stages[0]
        proven = tuple(one.environment for one in self._plan.stages) if is_first else ()
        attempt = StageAttempt(self._owner, stage, request, account, prepared, proven)
        return await make_ours(self._client, self._child(attempt, placement))

    async def _stop(self, action: Stop) -> None:
        # A watch may miss that it has gone, and what was told of it would count for minutes.
        self._children.drop_copies(self._owner.key)
        children = possible_children(
            self._plan, action.stage, key=action.key, number=action.attempt
        )
        for kind, name in children:
            await delete_ours(
                self._client, kind, self._owner.namespace, name, owner_uid=self._owner.uid
            )

    def _child(self, attempt: StageAttempt, placement: WorkerPlacement) -> Manifest:
        if placement is WorkerPlacement.ONE_POD:
            return batch_job_of(attempt, settings=self._settings)
        on_one_node = placement is WorkerPlacement.ONE_NODE
        return rayjob_of(attempt, settings=self._settings, on_one_node=on_one_node)

    async def _placement_of_workers(self, stage: PlannedStage) -> WorkerPlacement:
        # Asked at each start: KubeRay may come and go while the operator runs.
        if not may_run_in_rayjob(self._plan, stage.name) or not await self._client.serves(
            RAY_JOB.kind
        ):
            return WorkerPlacement.ONE_POD
        workspace = self._plan.spec.workspace
        if workspace.uri is not None:
            # They share no volume: their disks are their own.
            return WorkerPlacement.ANY_NODE
        name = workspace.claim_name or shared_name(self._owner.name)
        return worker_placement(
            await self._client.get("PersistentVolumeClaim", self._owner.namespace, name)
        )

    async def _ensure_shared_objects(self) -> None:
        """Make report and workspace, or what is missing of them.

        Raises:
            kubernetes.aio.client.exceptions.ApiException: somebody else has one of that name, or a
                deleted job of this name has left one; the garbage collector is on its way.
        """
        workspace = self._plan.spec.workspace
        for manifest in shared_objects(self._owner, workspace=workspace, settings=self._settings):
            # NB: never an apply. It would make ours what is somebody's, with the data on it.
            await make_ours(self._client, manifest)
