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

from tunesmith_api.job import FineTuneJobSpec
from tunesmith_api.resources import FineTuneJob
from tunesmith_api.status import FineTuneJobStatus
from tunesmith_engine.lifecycle.advance import advance
from tunesmith_engine.lifecycle.lives import as_started
from tunesmith_engine.lifecycle.records import Decision, Observations, Start, Stop
from tunesmith_engine.lifecycle.refusals import blocked, is_blocked, refused
from tunesmith_engine.lifecycle.usage import without_counts
from tunesmith_engine.planning.plan import plan
from tunesmith_operator.children import Children
from tunesmith_operator.cluster_client import Cluster, Manifest
from tunesmith_operator.denials import FORBIDDEN, denial, is_going_away
from tunesmith_operator.events import event_of
from tunesmith_operator.executor import KubeExecutor
from tunesmith_operator.identities import Identities
from tunesmith_operator.informer import New
from tunesmith_operator.manifests import Owner
from tunesmith_operator.merge_patch import merge_patch
from tunesmith_operator.names import Child
from tunesmith_operator.reading import Unreadable, read_job, read_status
from tunesmith_operator.settings import Settings

_LOG = logging.getLogger(__name__)

PROGRESS_S: Final = 15.0
RESYNC_S: Final = 300.0
# What has gone shows in no list, so a watch that is made anew does not tell of it.
STOPPING_S: Final = 10.0

# Seconds after which a job is looked at once more that has got another status: one step may make
# the next one possible. Of what a step has made there will be news; of what was there already, not.
AGAIN_S: Final = 1.0


async def reconcile(
    cluster: Cluster,
    *,
    namespace: str,
    name: str,
    settings: Settings,
    identities: Identities,
    told: Children,
    heard: AbstractSet[Child] = frozenset(),
    new: New | None = None,
    version: str = "",
) -> float | None:
    """Bring the job one step on; return the seconds after which to look again, if at all.

    A job that is `new` is not read again: nothing is done before its first status is stored, and
    that of an older version cannot be. Any other is read as it was at `version` or later: what
    follows from a job that has changed meanwhile is refused, and looked at again. `heard` are its
    children that were told of, and not of their end.

    Raises:
        kubernetes.aio.client.exceptions.ApiException: the API server refuses a request.
        pydantic.ValidationError: the status is of a release that this one does not know.
    """
    if new is not None:
        found: Manifest | None = new.job
    else:
        found = await cluster.get("FineTuneJob", namespace, name, not_before=version)
    if found is None or found["metadata"].get("deletionTimestamp"):
        return None
    status, job = read_status(found), read_job(found)
    if isinstance(job, Unreadable):
        await _refuse(cluster, found, status, message=job.message)
        return None
    try:
        return await _go_on(
            cluster,
            found,
            job,
            status,
            settings=settings,
            identities=identities,
            told=told,
            is_born=new is not None and new.is_born,
            heard=heard,
        )
    except ApiException as error:
        if error.status != FORBIDDEN:
            raise
        if is_going_away(error):
            return None
        await _block(cluster, found, message=denial(error))
        raise


async def _refuse(
    cluster: Cluster, found: Manifest, status: FineTuneJobStatus | None, *, message: str
) -> None:
    now = datetime.now(UTC)
    generation = found["metadata"].get("generation", 0)
    after = refused(status, generation=generation, message=message, now=now)
    if after != status:
        await _store(cluster, found, status, after, now=now)


async def _go_on(
    cluster: Cluster,
    found: Manifest,
    job: FineTuneJob,
    status: FineTuneJobStatus | None,
    *,
    settings: Settings,
    identities: Identities,
    heard: AbstractSet[Child],
    told: Children,
    is_born: bool,
) -> float | None:
    known = found["metadata"]
    planned = plan(job, fingerprints=fingerprints_of(job.spec, uid=known["uid"]))
    planned = as_started(planned, status)
    owner = Owner(name=known["name"], namespace=known["namespace"], uid=known["uid"])
    executor = KubeExecutor(
        planned, cluster, owner=owner, settings=settings, identities=identities, told=told
    )
    now = datetime.now(UTC)
    is_unheard = is_born and not heard
    seen = Observations() if is_unheard else await executor.observe(status, now=now, heard=heard)
    decision = advance(planned, status, seen, now=now)
    wait = _wait_before_writing(status, decision.status, now=now)
    is_told = decision.status != status and not wait
    is_tried_again = _is_tried_again(status, decision.status)
    if _needs_present(decision) and status is not None and (is_tried_again or not is_told):
        await _confirm(cluster, found, status)
    if is_told and not is_tried_again:
        await _store(cluster, found, status, decision.status, now=now)
    will_be_news = await executor.apply(decision.actions)
    if is_told and is_tried_again:
        await _store(cluster, found, status, decision.status, now=now)
    if decision.is_expired:
        await cluster.delete("FineTuneJob", known["namespace"], known["name"], as_seen=found)
        return None
    waits = _waits(decision, uid=known["uid"], now=now)
    if is_told and not will_be_news:
        waits.append(AGAIN_S)
    return min([*waits, wait] if wait else waits, default=None)


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


async def _confirm(cluster: Cluster, found: Manifest, status: FineTuneJobStatus) -> None:
    """Store what is stored: refused if the job has changed since it was read.

    A start that is repeated tells nothing new, and would else be made from a version that is past.
    """
    await _write(cluster, found, status)


def _is_tried_again(before: FineTuneJobStatus | None, after: FineTuneJobStatus) -> bool:
    """Whether all there is to do is what was refused before: nothing is said until it works."""
    return before is not None and is_blocked(before) and before.stages == after.stages


async def _block(cluster: Cluster, found: Manifest, *, message: str) -> None:
    """Say that the API server refuses a step, in the job as it is stored by now."""
    known = found["metadata"]
    newest = await cluster.get("FineTuneJob", known["namespace"], known["name"])
    if newest is None:
        return
    status, now = read_status(newest), datetime.now(UTC)
    generation = newest["metadata"].get("generation", 0)
    after = blocked(status, generation=generation, message=message, now=now)
    if after != status:
        await _write(cluster, newest, after)


async def _store(
    cluster: Cluster,
    found: Manifest,
    before: FineTuneJobStatus | None,
    after: FineTuneJobStatus,
    *,
    now: datetime,
) -> None:
    await _write(cluster, found, after)
    event = event_of(found, before, after, now=now)
    if event is None:
        return
    try:
        await cluster.create(event)
    except ApiException as error:
        _LOG.warning(
            "the Event of %s/%s is lost: %s", after.phase, found["metadata"]["name"], error
        )


async def _write(cluster: Cluster, found: Manifest, after: FineTuneJobStatus) -> None:
    status = after.model_dump(mode="json", by_alias=True, exclude_none=True)
    await cluster.patch_status(found, merge_patch(found.get("status") or {}, status))


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
