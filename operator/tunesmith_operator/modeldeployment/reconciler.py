"""One look at one deployment: see, decide, store, act. What workers do with each key of the queue.

    parse (parsing.py) -> observe (observer.py) -> judge (analyses.py) -> advance (the engine)
        -> store the status, as a patch of exactly the version that was read, and note an Event
        -> make what is desired (executor.py)

The status is stored before anything is made, so what is made can always be told from it.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from zlib import crc32

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_api.modeldeployment.monitoring import OnDrift
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.deployment.advance import advance
from tunesmith_engine.deployment.observations import (
    Decision,
    Observations,
    RetrainNews,
    RouteState,
)
from tunesmith_engine.deployment.rejections import reject_spec, report_forbidden
from tunesmith_engine.deployment.retraining import pending
from tunesmith_engine.monitoring.monitor import READ_S, Detector
from tunesmith_engine.monitoring.prometheus import Prometheus
from tunesmith_operator.controller.object_cache import ObjectCache
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.api_errors import (
    is_namespace_terminating,
    is_refusal,
    refusal_message,
)
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.objects import Manifest, is_deleting, merge_patch
from tunesmith_operator.kube.other_release import (
    OtherReleaseError,
    leave_alone,
    require_whole,
)
from tunesmith_operator.modeldeployment.achieved_split import Counter, SplitMeter
from tunesmith_operator.modeldeployment.adapter_pods import lists_to_tell
from tunesmith_operator.modeldeployment.analyses import Analyses
from tunesmith_operator.modeldeployment.commands import command_of
from tunesmith_operator.modeldeployment.deployment_ref import (
    LABEL_DEPLOYMENT,
    MODEL_DEPLOYMENT,
    DeploymentRef,
)
from tunesmith_operator.modeldeployment.events import events_of
from tunesmith_operator.modeldeployment.executor import KubeExecutor
from tunesmith_operator.modeldeployment.metrics import DeploymentMetrics
from tunesmith_operator.modeldeployment.monitors import Monitors
from tunesmith_operator.modeldeployment.next_job import make_next_job
from tunesmith_operator.modeldeployment.observer import Observer, Snapshot
from tunesmith_operator.modeldeployment.parsing import Unreadable, parse_spec, parse_status
from tunesmith_operator.modeldeployment.replica_client import Replicas
from tunesmith_operator.modeldeployment.slo_rules import SloRules
from tunesmith_operator.modeldeployment.versions import model_of
from tunesmith_operator.settings import Settings

# Seconds. What watches have missed is noticed then; a tenth more or less, so that they spread.
RESYNC_S: Final = 300.0
# The next job is made at the look after the one that names it.
_RETRAIN_S: Final = 1.0
# A time to wake at that is past must not become a busy loop.
_SHORTEST_S: Final = 0.1

# Session persistence of the Gateway API (GEP-1619) is experimental, and by a cookie or header that
# the proxy itself gives out, which clients of OpenAI's API do not send back.
_WHY_NOT_STICKY: Final = (
    "a Gateway splits request by request, and keeps no conversation or key with one version; leave "
    "rollout.sticky out, or set rollout.strategy: blueGreen, where all change over at once"
)


class Reconciler:
    """Looks at deployments; what is kept between looks could be read anew, but for samples."""

    def __init__(
        self,
        client: KubeClient,
        settings: Settings,
        recorder: EventRecorder,
        *,
        deployments: ObjectCache,
        replicas: Replicas,
        metrics: DeploymentMetrics,
        detector: Detector,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._settings = settings
        self._recorder = recorder
        self._deployments = deployments
        self._replicas = replicas
        self._metrics = metrics
        self._clock = clock
        url = settings.prometheus_url
        self._analyses = Analyses(replicas, Prometheus.at(url) if url else None)
        self._monitors = Monitors(
            client, replicas, detector=detector, default_price=settings.accelerator_hour_price
        )
        self._rules = SloRules(client, settings)
        self._meters: dict[Key, SplitMeter] = {}
        self._models: dict[Key, str] = {}

    def followers(self, version: Manifest) -> list[Key]:
        """The deployments of the model of this ModelVersion that were looked at so far."""
        namespace, model = version["metadata"].get("namespace", ""), model_of(version)
        followed = self._models.items()
        return [key for key, name in followed if (key.namespace, name) == (namespace, model)]

    def recording(self, namespace: str, name: str) -> str | None:
        """The last rollout of a deployment, for `tunesmith judge replay`."""
        return self._analyses.recording(Key(MODEL_DEPLOYMENT.kind, namespace, name))

    async def reconcile(self, key: Key) -> float | None:
        """Bring the deployment one step on; return the seconds after which to look again.

        Raises:
            kubernetes.aio.client.exceptions.ApiException: the API server refuses a request, or the
                deployment has changed meanwhile.
        """
        try:
            return await self._look(key)
        except Exception:
            # The copy may be why it failed; the look that repeats this one reads what is stored.
            self._deployments.distrust(key)
            raise

    async def _look(self, key: Key) -> float | None:
        cached = await self._deployments.read(self._client, key)
        if cached is None or is_deleting(cached.manifest):
            # What was made for it goes with it; that is the garbage collector's.
            self._forget(key)
            return None
        manifest = cached.manifest
        self._models[key] = model_of(manifest) or ""
        try:
            require_whole(manifest)
            status = parse_status(manifest)
        except OtherReleaseError as error:
            leave_alone(self._recorder, manifest, MODEL_DEPLOYMENT, error, now=self._clock())
            return RESYNC_S
        spec = parse_spec(manifest)
        if isinstance(spec, Unreadable):
            generation, now = manifest["metadata"].get("generation", 0), self._clock()
            after = reject_spec(status, generation=generation, message=spec.message, now=now)
            await self._store(manifest, status, after, now=now)
            return None
        try:
            return await self._step(manifest, spec, status)
        except ApiException as error:
            # Not only rights: of a name that no Service may have, for one, it is a 422.
            if not is_refusal(error):
                raise
            if is_namespace_terminating(error):
                return None
            # Said in the deployment, and tried again all the same: a right may come back.
            await self._block(key, message=refusal_message(error, subject="this deployment"))
            raise

    async def _step(
        self, manifest: Manifest, spec: ModelDeploymentSpec, status: ModelDeploymentStatus | None
    ) -> float | None:
        owner = DeploymentRef.of(manifest)
        self._metrics.read(owner.key, spec)
        now = self._clock()
        observer = Observer(self._client, self._replicas, owner=owner)
        snapshot = await observer.observe(spec, status, now=now)
        seen = await self._observations(manifest, spec, status, snapshot, now=now)
        generation = manifest["metadata"].get("generation", 0)
        decision = advance(spec, status, seen, generation=generation, now=now)
        after = decision.status.model_copy(update={"selector": f"{LABEL_DEPLOYMENT}={owner.name}"})
        # NB: the order is what survives a crash: what is made is always named by a stored status.
        await self._store(manifest, status, after, now=now, actions=spec.monitoring.on_drift)
        executor = KubeExecutor(
            self._client, self._settings, owner=owner, spec=spec, snapshot=snapshot
        )
        await executor.make(decision.desired, after)
        await self._replicas.hold(lists_to_tell(snapshot.base_pods, decision.desired))
        await self._rules.make(owner, spec)
        return _requeue_after_s(decision, spec, uid=owner.uid, now=now)

    async def _observations(
        self,
        manifest: Manifest,
        spec: ModelDeploymentSpec,
        status: ModelDeploymentStatus | None,
        snapshot: Snapshot,
        *,
        now: datetime,
    ) -> Observations:
        owner = DeploymentRef.of(manifest)
        key = owner.key
        verdict = await self._analyses.verdict(
            key, status, limits=spec.rollout.analysis, hosts=snapshot.hosts, now=now
        )
        return Observations(
            versions=snapshot.versions,
            replicas=snapshot.replicas,
            route=self._metered(key, snapshot, now=now),
            can_split=snapshot.has_gateway_api,
            can_mirror=snapshot.has_gateway_api,
            cannot_split="" if snapshot.has_gateway_api else _why_whole(spec),
            cannot_stick=_WHY_NOT_STICKY,
            verdict=verdict,
            command=command_of(manifest),
            monitored=await self._monitors.monitored(owner, spec, status, snapshot, now=now),
            retrain_news=await self._retrain(owner, spec, status),
        )

    async def _retrain(
        self,
        owner: DeploymentRef,
        spec: ModelDeploymentSpec,
        status: ModelDeploymentStatus | None,
    ) -> RetrainNews | None:
        """Make the job that the stored status names, if it is not there yet."""
        # NB: the stored one. Whoever is killed after this finds the same name, and the job there.
        named = pending(status.monitoring) if status is not None else None
        if named is None or spec.monitoring.retrain is None:
            return None
        return await make_next_job(
            self._client, named, copied=spec.monitoring.retrain.job_name, owner=owner
        )

    def _metered(self, key: Key, snapshot: Snapshot, *, now: datetime) -> RouteState:
        """The route, with what each revision really got of it."""
        counters = {
            replica.name: Counter(replica.revision, report.instance, report.accepted)
            for replica in snapshot.replicas
            if (report := snapshot.reports.get(replica.name)) is not None
        }
        meter = self._meters.get(key, SplitMeter()).read(snapshot.route.in_use, counters, now=now)
        self._meters[key] = meter
        if snapshot.route.in_use is None:
            return snapshot.route
        return replace(snapshot.route, since=meter.since, achieved=meter.achieved())

    async def _block(self, key: Key, *, message: str) -> None:
        """Say that the API server refuses a step, in the deployment as it is stored by now."""
        newest = await self._client.get(key.kind, key.namespace, key.name)
        if newest is None:
            return
        status, now = parse_status(newest), self._clock()
        generation = newest["metadata"].get("generation", 0)
        after = report_forbidden(status, generation=generation, message=message, now=now)
        await self._store(newest, status, after, now=now)

    async def _store(
        self,
        manifest: Manifest,
        before: ModelDeploymentStatus | None,
        after: ModelDeploymentStatus,
        *,
        now: datetime,
        actions: OnDrift | None = None,
    ) -> None:
        """Write the status, if there is news, and note what changed of phase and drift."""
        key = DeploymentRef.of(manifest).key
        self._metrics.note(key, before, after)
        if after == before:
            return
        status = after.model_dump(mode="json", by_alias=True, exclude_none=True)
        change = merge_patch(manifest.get("status") or {}, status)
        self._deployments.wrote(key, await self._client.patch_status(manifest, change))
        for event in events_of(manifest, before, after, actions=actions, now=now):
            self._recorder.record(event)

    def _forget(self, key: Key) -> None:
        self._analyses.forget(key)
        self._monitors.forget(key)
        self._metrics.forget(key)
        self._rules.forget(key)
        self._meters.pop(key, None)
        self._models.pop(key, None)


def _why_whole(spec: ModelDeploymentSpec) -> str:
    if spec.gateway is None:
        return "a Service cannot split requests; name a Gateway in spec.gateway, or set blueGreen"
    return (
        "the Gateway API is not installed in this cluster; install it, or set rollout.strategy: "
        "blueGreen"
    )


def _requeue_after_s(
    decision: Decision, spec: ModelDeploymentSpec, *, uid: str, now: datetime
) -> float:
    # By the uid, so that a restart of the operator, which looks at all at once, spreads them anew.
    stable, monitoring = decision.status.stable, spec.monitoring
    is_watched = monitoring.enabled and stable is not None and stable.replicas > 0
    longest_s = READ_S if is_watched else RESYNC_S
    resync_s = longest_s * (0.9 + 0.2 * (crc32(uid.encode()) % 1000 / 1000))
    if decision.retrain is not None and not decision.retrain.message:
        return _RETRAIN_S
    if decision.wake_at is None:
        return resync_s
    return min(resync_s, max(_SHORTEST_S, (decision.wake_at - now).total_seconds()))
