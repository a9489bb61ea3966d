"""One look at one job: see, decide, store, act. What the workers do with each key of the queue.

    parse (parsing.py) -> observe (observer.py) -> advance (the engine) -> Step (step.py)
        -> store the status, as a patch of exactly the version that was read, and note an Event
        -> apply the actions (executor.py)

The status is stored before anything is started, at the version of the job that was looked at: of
two operators that look at once, one is refused and looks again.
"""

from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_engine.lifecycle.advance import advance
from tunesmith_engine.lifecycle.observations import Decision
from tunesmith_engine.lifecycle.rejections import reject_spec, report_forbidden
from tunesmith_engine.lifecycle.runs import of_this_object, pin_keys
from tunesmith_engine.monitoring.cost import training_cost
from tunesmith_engine.planning.plan import Plan, plan
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_engine.stages.stage import Catalog
from tunesmith_operator.controller.child_cache import ChildCache, ChildRef
from tunesmith_operator.controller.object_cache import CachedObject, ObjectCache
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.events import event_of
from tunesmith_operator.finetunejob.executor import KubeExecutor, StartRefusedError
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB, JobRef
from tunesmith_operator.finetunejob.metrics import JobMetrics
from tunesmith_operator.finetunejob.observer import Observer, Snapshot
from tunesmith_operator.finetunejob.parsing import (
    Unreadable,
    fingerprints_of,
    has_ended,
    parse_job,
    parse_status,
)
from tunesmith_operator.finetunejob.publication import (
    Publisher,
    has_just_succeeded,
    with_warning,
)
from tunesmith_operator.finetunejob.service_accounts import StageAccounts
from tunesmith_operator.finetunejob.step import RESYNC_S, Step
from tunesmith_operator.kube.api_errors import is_namespace_terminating, is_refusal, refusal_message
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.objects import Manifest, is_deleting, merge_patch
from tunesmith_operator.kube.other_release import (
    OtherReleaseError,
    leave_alone,
    require_whole,
)
from tunesmith_operator.settings import Settings


class Reconciler:
    """Looks at jobs; what one look has learnt of the cluster, the next one knows."""

    def __init__(
        self,
        client: KubeClient,
        settings: Settings,
        recorder: EventRecorder,
        *,
        jobs: ObjectCache,
        children: ChildCache,
        catalog: Catalog = CATALOG,
        metrics: JobMetrics | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._recorder = recorder
        self._jobs = jobs
        self._children = children
        self._catalog = catalog
        self._accounts = StageAccounts(client)
        self._metrics = metrics or JobMetrics()
        self._publisher = Publisher(client)

    async def reconcile(self, key: Key) -> float | None:
        """Bring the job one step on; return the seconds after which to look again, if at all.

        What follows from a job that has changed meanwhile is refused, and looked at again.

        Raises:
            kubernetes.aio.client.exceptions.ApiException: the API server refuses a request.
        """
        # From before the job is read: a child that is told of only later is the next look's.
        active = self._children.active(key)
        try:
            return await self._look(key, active)
        except Exception:
            # The copy may be why it failed; the look that repeats this one reads what is stored.
            self._jobs.distrust(key)
            raise

    async def _look(self, key: Key, active: AbstractSet[ChildRef]) -> float | None:
        cached = await self._jobs.read(self._client, key)
        if cached is None or is_deleting(cached.manifest):
            # Its children go with it; that is the garbage collector's.
            return None
        try:
            # Of a job that is over nothing more is made.
            if not has_ended(cached.manifest):
                require_whole(cached.manifest)
            status = parse_status(cached.manifest)
        except OtherReleaseError as error:
            now = datetime.now(UTC)
            leave_alone(self._recorder, cached.manifest, FINE_TUNE_JOB, error, now=now)
            return RESYNC_S
        job = parse_job(cached.manifest)
        if isinstance(job, Unreadable):
            await self._refuse(cached.manifest, status, message=job.message)
            return None
        try:
            return await self._step(cached, job, status, active)
        except ApiException as error:
            if not is_refusal(error):
                raise
            if is_namespace_terminating(error):
                return None
            # Said in the job, and tried again all the same: a quota or a right may come back.
            await self._block(key, message=refusal_message(error, subject="this job"))
            raise

    async def _step(
        self,
        cached: CachedObject,
        job: FineTuneJob,
        status: FineTuneJobStatus | None,
        active: AbstractSet[ChildRef],
    ) -> float | None:
        owner = JobRef.of(cached.manifest)
        # A job keeps the keys that it was started with: those of another release differ, and would
        # begin it anew.
        fingerprints = fingerprints_of(job.spec, uid=owner.uid)
        planned = plan(job, fingerprints=fingerprints, catalog=self._catalog)
        status = of_this_object(planned, status)
        planned = pin_keys(planned, status)
        now = datetime.now(UTC)
        snapshot = Snapshot()
        # A job whose creation was watched has no children but those that were told of: where there
        # are none, nothing is read. A search for strays would list Jobs for each of a thousand new.
        if active or not cached.is_new:
            observer = Observer(planned, self._client, self._children, key=owner.key, uid=owner.uid)
            snapshot = await observer.observe(status, now=now, active=active)
        decision = advance(planned, status, snapshot.observations, now=now)
        if has_just_succeeded(status, decision.status):
            # NB: before that is stored. A job that is over is not looked at for this again.
            decision = await self._publish(planned, decision, snapshot, owner=owner, now=now)
        decision = replace(decision, status=self._priced(status, decision.status))
        step = Step(cached.manifest, status, decision, now)
        executor = KubeExecutor(
            planned,
            self._client,
            owner=owner,
            settings=self._settings,
            accounts=self._accounts,
            children=self._children,
        )
        try:
            has_created = await self._carry_out(step, executor, snapshot)
        except StartRefusedError as refused:
            await self._fail_start(planned, refused, snapshot, key=owner.key)
            return None
        if step.writes_status:
            # What was not stored is counted when it is.
            model = job.spec.output.model
            self._metrics.note(owner.key, model, before=status, after=decision.status)
        if decision.is_expired:
            # Only as it was seen: somebody may have taken it up again at this very moment.
            await self._client.delete(
                owner.key.kind, owner.namespace, owner.name, as_seen=cached.manifest
            )
            return None
        return step.requeue_after_s(has_created=has_created)

    def _priced(
        self, before: FineTuneJobStatus | None, after: FineTuneJobStatus
    ) -> FineTuneJobStatus:
        """The status with what the job has cost; a new price changes no job that is over."""
        if before is not None and before.gpu_seconds == after.gpu_seconds:
            return after
        cost = training_cost(after.gpu_seconds, price=self._settings.accelerator_hour_price)
        return after if cost == after.cost else after.model_copy(update={"cost": cost})

    async def _publish(
        self, planned: Plan, decision: Decision, snapshot: Snapshot, *, owner: JobRef, now: datetime
    ) -> Decision:
        """Record what the job has published; the decision says what went otherwise."""
        result = snapshot.observations.finished.get(planned.stages[-1].key)
        facts = result.facts if result is not None else {}
        warning = await self._publisher.publish(facts, planned.spec, owner=owner, now=now)
        if warning is None:
            return decision
        return replace(decision, status=with_warning(decision.status, warning))

    async def _carry_out(self, step: Step, executor: KubeExecutor, snapshot: Snapshot) -> bool:
        """Store the status and do what was decided; return whether a child was created."""
        # NB: the order is what survives a crash. A status that is stored names the attempt, which
        # is then started by whoever looks next; an attempt that no status names would be a stray.
        if step.needs_confirmation and step.before is not None:
            await self._write(step.job, step.before)
        if step.writes_status and not step.is_retry:
            await self._store(step.job, step.before, step.decision.status, now=step.now)
        has_created = await executor.apply(step.decision.actions, snapshot)
        if step.writes_status and step.is_retry:
            await self._store(step.job, step.before, step.decision.status, now=step.now)
        return has_created

    async def _fail_start(
        self, planned: Plan, refused: StartRefusedError, snapshot: Snapshot, *, key: Key
    ) -> None:
        """Let the attempt that cannot start end as one whose stage has found its input bad."""
        newest = await self._client.get(key.kind, key.namespace, key.name)
        if newest is None:
            return
        before, now = parse_status(newest), datetime.now(UTC)
        message = refusal_message(refused.error, subject="this job")
        seen = snapshot.observations.with_refused(refused.start, message)
        decision = advance(planned, before, seen, now=now)
        await self._store(newest, before, decision.status, now=now)

    async def _refuse(
        self, job: Manifest, status: FineTuneJobStatus | None, *, message: str
    ) -> None:
        """Say that the job cannot be read, once for each generation of it."""
        now = datetime.now(UTC)
        generation = job["metadata"].get("generation", 0)
        after = reject_spec(status, generation=generation, message=message, now=now)
        if after != status:
            await self._store(job, status, after, now=now)

    async def _block(self, key: Key, *, message: str) -> None:
        """Say that the API server refuses a step, in the job as it is stored by now."""
        # The step has stored its status already, so what this look read is past.
        newest = await self._client.get(key.kind, key.namespace, key.name)
        if newest is None:
            return
        status, now = parse_status(newest), datetime.now(UTC)
        generation = newest["metadata"].get("generation", 0)
        after = report_forbidden(status, generation=generation, message=message, now=now)
        if after != status:
            await self._write(newest, after)

    async def _store(
        self,
        job: Manifest,
        before: FineTuneJobStatus | None,
        after: FineTuneJobStatus,
        *,
        now: datetime,
    ) -> None:
        await self._write(job, after)
        event = event_of(job, before, after, now=now)
        if event is not None:
            self._recorder.record(event)

    async def _write(self, job: Manifest, after: FineTuneJobStatus) -> None:
        status = after.model_dump(mode="json", by_alias=True, exclude_none=True)
        change = merge_patch(job.get("status") or {}, status)
        version = await self._client.patch_status(job, change)
        self._jobs.wrote(JobRef.of(job).key, version)
