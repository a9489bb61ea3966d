"""Makes everything as `desired` says, again and again: it decides nothing.

What a revision has is created once and never written again but for its replicas; the route is
applied. What nobody wants any more goes, if it is this deployment's own.
"""

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.adapter_hosts import hosts_of
from tunesmith_engine.deployment.observations import Desired, DesiredRevision
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import Manifest, is_deleting, label_of
from tunesmith_operator.kube.resources import (
    DEPLOYMENT,
    HTTP_ROUTE,
    SCALED_OBJECT,
    SERVICE,
)
from tunesmith_operator.modeldeployment.autoscaling import scaled_object
from tunesmith_operator.modeldeployment.deployment_ref import LABEL_REVISION, DeploymentRef
from tunesmith_operator.modeldeployment.front_service import front_service
from tunesmith_operator.modeldeployment.http_route import http_route
from tunesmith_operator.modeldeployment.manifests import (
    covers,
    deployment_of,
    disruption_budget,
    replicas_of,
    revision_service,
)
from tunesmith_operator.modeldeployment.observer import Snapshot
from tunesmith_operator.settings import Settings


class KubeExecutor:
    """Makes what one deployment wants, from what one look has seen."""

    def __init__(
        self,
        client: KubeClient,
        settings: Settings,
        *,
        owner: DeploymentRef,
        spec: ModelDeploymentSpec,
        snapshot: Snapshot,
    ) -> None:
        self._client = client
        self._settings = settings
        self._owner = owner
        self._spec = spec
        self._snapshot = snapshot

    async def make(self, desired: Desired, status: ModelDeploymentStatus) -> None:
        """Bring about what is desired; nothing is written where it is there already.

        `status` is the one that was stored: it says which revision is stable, whose replicas a
        scaler may move.
        """
        scaler = self._scaler(desired, status)
        scaled = scaler["metadata"]["name"] if scaler is not None else None
        # NB: the order. A backend is there before a route names it, and until no route does.
        hosts = hosts_of(desired.revisions)
        for revision in hosts:
            is_scaled = self._owner.name_of(revision.revision) == scaled
            await self._make_revision(revision, is_scaled=is_scaled)
        for revision in desired.revisions:
            if revision.base is not None:
                await self._make_missing(revision_service(revision, owner=self._owner))
        await self._make_scaler(scaler)
        # A route that somebody else has under our name is theirs.
        if self._snapshot.route.failure != Reason.OWNED_BY_ANOTHER:
            await self._make_route(desired)
        wanted = {revision.revision for revision in (*hosts, *desired.revisions)}
        for (kind, name), item in self._snapshot.owned.items():
            made_for = label_of(item, LABEL_REVISION)
            is_past = made_for is not None and made_for not in wanted
            if is_past and kind != SCALED_OBJECT.kind and not is_deleting(item):
                await self._client.delete(kind, self._owner.namespace, name)

    async def _make_revision(self, revision: DesiredRevision, *, is_scaled: bool) -> None:
        owner, name = self._owner, self._owner.name_of(revision.revision)
        deployment = self._owned(DEPLOYMENT.kind, name)
        if deployment is None:
            await self._client.create(
                deployment_of(
                    revision,
                    self._spec,
                    owner=owner,
                    settings=self._settings,
                    num_bytes=self._num_bytes(revision),
                )
            )
        # NB: one writer of replicas. Ours and the scaler's would undo each other for ever.
        elif not is_scaled and deployment["spec"].get("replicas") != revision.replicas:
            await self._client.apply(replicas_of(revision, owner=owner))
        await self._make_missing(revision_service(revision, owner=owner))
        await self._make_missing(disruption_budget(revision, owner=owner))

    async def _make_missing(self, manifest: Manifest) -> None:
        if self._owned(manifest["kind"], manifest["metadata"]["name"]) is None:
            await self._client.create(manifest)

    def _scaler(self, desired: Desired, status: ModelDeploymentStatus) -> Manifest | None:
        """The scaler of the stable revision, where there is to be one."""
        scaling, prometheus = self._spec.autoscaling, self._settings.prometheus_url
        if scaling is None or prometheus is None or not self._snapshot.has_keda:
            return None
        if status.stable is None or not status.stable.replicas:
            return None
        revision = status.stable.revision
        if not any(wanted.revision == revision for wanted in desired.revisions):
            return None
        # Of an adapter it is its base that has replicas.
        host = status.stable.base.revision if status.stable.base else revision
        name = self._owner.name_of(host)
        ready = sum(replica.revision == revision for replica in self._snapshot.replicas)
        return scaled_object(
            scaling,
            name=name,
            metadata=self._owner.metadata(name, **{LABEL_REVISION: host}),
            prometheus=prometheus,
            is_frozen=status.candidate is not None,
            replicas=ready,
        )

    async def _make_scaler(self, scaler: Manifest | None) -> None:
        """Apply the scaler, and take away every other: of a revision that is stable no more."""
        name = scaler["metadata"]["name"] if scaler is not None else None
        for (kind, stored_name), item in self._snapshot.owned.items():
            if kind == SCALED_OBJECT.kind and stored_name != name and not is_deleting(item):
                await self._client.delete(kind, self._owner.namespace, stored_name)
        if scaler is None or name is None:
            return
        stored = self._owned(SCALED_OBJECT.kind, name)
        await self._write(scaler, stored)

    async def _make_route(self, desired: Desired) -> None:
        route = desired.route
        if not self._snapshot.has_gateway_api:
            await self._apply_changed(front_service(self._owner, self._spec, route))
            return
        if route.weights:
            # The newest of those that drain before others: the proxy may still be letting go.
            newest_first = desired.revisions[::-1]
            by_use = sorted(newest_first, key=lambda made: made.is_draining)
            standby = [revision.revision for revision in by_use]
            manifest = http_route(self._owner, self._spec, route, standby=standby)
            await self._apply_changed(manifest)
        else:
            await self._delete(HTTP_ROUTE.kind)
        # Left from before there was a Gateway.
        await self._delete(SERVICE.kind)

    async def _apply_changed(self, manifest: Manifest) -> None:
        stored = self._owned(manifest["kind"], self._owner.name)
        await self._write(manifest, stored)

    async def _write(self, manifest: Manifest, stored: Manifest | None) -> None:
        """Make it, or have ours say what is wanted."""
        if stored is None:
            # NB: not an apply, which would take over what somebody else has under that name.
            await self._client.create(manifest)
        elif not covers(stored["spec"], manifest["spec"]):
            await self._client.apply(manifest)

    async def _delete(self, kind: str) -> None:
        if self._owned(kind, self._owner.name) is not None:
            await self._client.delete(kind, self._owner.namespace, self._owner.name)

    def _owned(self, kind: str, name: str) -> Manifest | None:
        return self._snapshot.owned.get((kind, name))

    def _num_bytes(self, revision: DesiredRevision) -> int | None:
        """The size of the version's files, if its record is still there."""
        return next(
            (
                version.num_bytes
                for version in self._snapshot.versions
                if revision.digest in {version.digest, version.base and version.base.digest}
                and version.problem is None
            ),
            None,
        )
