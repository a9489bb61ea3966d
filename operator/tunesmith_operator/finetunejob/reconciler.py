"""One look at one job: see, decide, store, act. What the workers do with each key of the queue.

The status is stored before anything is started, at the version of the job that was looked at: of
two operators that look at once, one is refused and looks again.
"""

import logging
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Final
from zlib import crc32

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_engine.lifecycle.accounting import without_counts
from tunesmith_engine.lifecycle.advance import advance
from tunesmith_engine.lifecycle.observations import Decision, Observations, Start, Stop
from tunesmith_engine.lifecycle.rejections import blocked, is_blocked, refused
from tunesmith_engine.lifecycle.runs import as_started
from tunesmith_engine.planning.plan import plan
from tunesmith_engine.planning.records import Plan
from tunesmith_operator.controller.child_cache import Children
from tunesmith_operator.controller.object_cache import Found, Jobs
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.child_names import Child
from tunesmith_operator.finetunejob.events import event_of
from tunesmith_operator.finetunejob.executor import KubeExecutor
from tunesmith_operator.finetunejob.manifests import Owner
from tunesmith_operator.finetunejob.parsing import Unreadable, read_job, read_status
from tunesmith_operator.finetunejob.service_accounts import Identities
from tunesmith_operator.kube.api_errors import FORBIDDEN, denial, is_going_away
from tunesmith_operator.kube.client import Cluster, Manifest
from tunesmith_operator.kube.merge_patch import merge_patch
from tunesmith_operator.settings import Settings

_LOG = logging.getLogger(__name__)

PROGRESS_S: Final = 15.0
RESYNC_S: Final = 300.0
# What has gone shows in no list, so a watch that is made anew does not tell of it.
STOPPING_S: Final = 10.0

# Seconds after which a job is looked at once more that has got another status: one step may make
# the next one possible. Of what a step has made there will be news; of what was there already, not.
AGAIN_S: Final = 1.0


class Reconciler:
    """Looks at jobs; what one look has learnt of the cluster, the next one knows."""

    def __init__(
        self, cluster: Cluster, settings: Settings, *, jobs: Jobs, children: Children
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._jobs = jobs
        self._children = children
        self._identities = Identities(cluster)

    async def reconcile(self, key: Key, *, heard: AbstractSet[Child] = frozenset()) -> float | None:
        """Bring the job one step on; return the seconds after which to look again, if at all.

        What follows from a job that has changed meanwhile is refused, and looked at again. `heard`
        are its children that were told of, and not of their end.

        Raises:
            kubernetes.aio.client.exceptions.ApiException: the API server refuses a request.
            pydantic.ValidationError: the status is of a release that this one does not know.
        """
        try:
            return await self._look(key, heard=heard)
        except Exception:
            self._jobs.distrust(key)
            raise

    async def _look(self, key: Key, *, heard: AbstractSet[Child]) -> float | None:
        found = await self._jobs.read(self._cluster, key)
        if found is None or found.job["metadata"].get("deletionTimestamp"):
            return None
        status, job = read_status(found.job), read_job(found.job)
        if isinstance(job, Unreadable):
            await self._refuse(found.job, status, message=job.message)
            return None
        try:
            return await self._go_on(found, job, status, heard=heard)
        except ApiException as error:
            if error.status != FORBIDDEN:
                raise
            if is_going_away(error):
                return None
            await self._block(found.job, message=denial(error))
            raise

    async def _refuse(
        self, job: Manifest, status: FineTuneJobStatus | None, *, message: str
    ) -> None:
        now = datetime.now(UTC)
        generation = job["metadata"].get("generation", 0)
        after = refused(status, generation=generation, message=message, now=now)
        if after != status:
            await self._store(job, status, after, now=now)

    async def _go_on(
        self,
        found: Found,
        job: FineTuneJob,
        status: FineTuneJobStatus | None,
        *,
        heard: AbstractSet[Child],
    ) -> float | None:
        known = found.job["metadata"]
        planned = plan(job, fingerprints=fingerprints_of(job.spec, uid=known["uid"]))
        planned = as_started(planned, status)
        executor = self._executor(planned, known)
        now = datetime.now(UTC)
        has_begun = heard or not found.is_born
        seen = await executor.observe(status, now=now, heard=heard) if has_begun else Observations()
        decision = advance(planned, status, seen, now=now)
        wait = _wait_before_writing(status, decision.status, now=now)
        is_told = decision.status != status and not wait
        will_be_news = await self._carry_out(
            found.job, status, decision, executor, is_told=is_told, now=now
        )
        if decision.is_expired:
            namespace, name = known["namespace"], known["name"]
            await self._cluster.delete("FineTuneJob", namespace, name, as_seen=found.job)
            return None
        waits = _waits(decision, uid=known["uid"], now=now)
        if is_told and not will_be_news:
            waits.append(AGAIN_S)
        return min([*waits, wait] if wait else waits, default=None)

    async def _carry_out(
        self,
        job: Manifest,
        before: FineTuneJobStatus | None,
        decision: Decision,
        executor: KubeExecutor,
        *,
        is_told: bool,
        now: datetime,
    ) -> bool:
        """Store the status, if `is_told`, and do what was decided; return whether news will come.

        What was refused before is told of after it has worked.
        """
        is_tried_again = _is_tried_again(before, decision.status)
        if _needs_present(decision) and before is not None and (is_tried_again or not is_told):
            await self._confirm(job, before)
        if is_told and not is_tried_again:
            await self._store(job, before, decision.status, now=now)
        will_be_news = await executor.apply(decision.actions)
        if is_told and is_tried_again:
            await self._store(job, before, decision.status, now=now)
        return will_be_news

    def _executor(self, planned: Plan, known: Manifest) -> KubeExecutor:
        return KubeExecutor(
            planned,
            self._cluster,
            owner=Owner(name=known["name"], namespace=known["namespace"], uid=known["uid"]),
            settings=self._settings,
            identities=self._identities,
            told=self._children,
        )

    async def _confirm(self, job: Manifest, status: FineTuneJobStatus) -> None:
        """Store what is stored: refused if the job has changed since it was read.

        A start that is repeated tells nothing new, and would else be made from a version that is
        past.
        """
        await self._write(job, status)

    async def _block(self, job: Manifest, *, message: str) -> None:
        """Say that the API server refuses a step, in the job as it is stored by now."""
        known = job["metadata"]
        newest = await self._cluster.get("FineTuneJob", known["namespace"], known["name"])
        if newest is None:
            return
        status, now = read_status(newest), datetime.now(UTC)
        generation = newest["metadata"].get("generation", 0)
        after = blocked(status, generation=generation, message=message, now=now)
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
        if event is None:
            return
        try:
            await self._cluster.create(event)
        except ApiException as error:
            name = job["metadata"]["name"]
            _LOG.warning("the Event of %s/%s is lost: %s", after.phase, name, error)

    async def _write(self, job: Manifest, after: FineTuneJobStatus) -> None:
        status = after.model_dump(mode="json", by_alias=True, exclude_none=True)
        change = merge_patch(job.get("status") or {}, status)
        version = await self._cluster.patch_status(job, change)
        known = job["metadata"]
        self._jobs.wrote((known["namespace"], known["name"]), version)


def _waits(decision: Decision, *, uid: str, now: datetime) -> list[float]:
    """Seconds after which to look again, whichever is first."""
    waits = []
    if any(isinstance(each, Stop) for each in decision.actions):
        waits.append(STOPPING_S)
    if decision.actions or not decision.status.phase.is_terminal:
        waits.append(resync_s(uid))
    if decision.wake_at is not None:
        waits.append(max(0.1, (decision.wake_at - now).total_seconds()))
    return waits


def _needs_present(decision: Decision) -> bool:
    """Whether it would do harm if the job has changed: what the past did not know is no stray."""
    return any(isinstance(each, Start) or each.because == "Superseded" for each in decision.actions)


def _is_tried_again(before: FineTuneJobStatus | None, after: FineTuneJobStatus) -> bool:
    """Whether all there is to do is what was refused before: nothing is said until it works."""
    return before is not None and is_blocked(before) and before.stages == after.stages


def resync_s(uid: str) -> float:
    """Seconds after which a job that is not over is looked at although nothing was heard of it.

    What watches have missed is so noticed, of all jobs spread over a time.
    """
    spread = crc32(uid.encode()) % 1000 / 1000
    return RESYNC_S * (0.8 + 0.4 * spread)


def fingerprints_of(spec: FineTuneJobSpec, *, uid: str) -> dict[str, str]:
    """What stands for the content of the sources in a cluster: address and revision, in this job.

    The control plane reads no data, so content that changes under an address while a job runs is
    not noticed; another job, even of the same name, has other keys.
    """
    sources = {
        "model": spec.model,
        "dataset.train": spec.dataset.train,
        "dataset.validation": spec.dataset.validation,
        "evaluation.generalText": spec.evaluation.general_text,
    }
    revision = spec.model.revision or ""
    return {
        path: f"{source.uri}@{revision if path == 'model' else ''}#{uid}"
        for path, source in sources.items()
        if source is not None
    }


def _wait_before_writing(
    before: FineTuneJobStatus | None, after: FineTuneJobStatus, *, now: datetime
) -> float:
    """Seconds until news of progress, or other words for the same reasons, may be written."""
    if before is None or before.progress is None or before == after:
        return 0.0
    if _without_words(before) != _without_words(after):
        return 0.0
    age = (now - before.progress.last_update_time).total_seconds()
    return max(0.0, PROGRESS_S - age)


def _without_words(status: FineTuneJobStatus) -> FineTuneJobStatus:
    conditions = [each.model_copy(update={"message": ""}) for each in status.conditions]
    stages = [each.model_copy(update={"message": ""}) for each in status.stages]
    update = {"progress": None, "conditions": conditions, "stages": stages}
    return without_counts(status).model_copy(update=update)
