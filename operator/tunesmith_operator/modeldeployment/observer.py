"""What is to be seen of a deployment: versions, what was made for it, its replicas, its route.

It reads and never writes. What was made is known by its labels and its owner; an object of a name
that is needed and somebody else's is told as such, and left alone.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.adapter_hosts import (
    adapter_states,
    adapters_by_base,
    revisions_in,
)
from tunesmith_engine.deployment.observations import AvailableVersion, ReplicaState, RouteState
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_operator.kube.api_errors import FORBIDDEN
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import Manifest, label_of
from tunesmith_operator.kube.resources import (
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    GATEWAY,
    HTTP_ROUTE,
    POD,
    SCALED_OBJECT,
    SERVICE,
)
from tunesmith_operator.modeldeployment.adapter_pods import BasePod
from tunesmith_operator.modeldeployment.deployment_ref import (
    LABEL_REVISION,
    MODEL_VERSION,
    DeploymentRef,
)
from tunesmith_operator.modeldeployment.front_service import service_state
from tunesmith_operator.modeldeployment.http_route import route_state
from tunesmith_operator.modeldeployment.replica_client import Replicas
from tunesmith_operator.modeldeployment.replica_states import host_of, replica_state
from tunesmith_operator.modeldeployment.versions import available_versions

# What each revision has one of; a list of each is read at every look.
REVISION_KINDS: Final = (DEPLOYMENT, SERVICE, DISRUPTION_BUDGET)
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one look has seen.

    `owned` is what was made for this deployment, by kind and name. `hosts` are the addresses of the
    replicas that answered, by revision and name, and `reports` their words; an adapter counts as a
    replica on each pod of its base, and `base_pods` are those by name. `has_gateway_api` says
    that HTTPRoutes are defined, `has_keda` that ScaledObjects are.
    """

    versions: tuple[AvailableVersion, ...] = ()
    owned: Mapping[Place, Manifest] = field(default_factory=dict)
    replicas: tuple[ReplicaState, ...] = ()
    reports: Mapping[str, ReplicaReport] = field(default_factory=dict)
    hosts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    base_pods: Mapping[str, BasePod] = field(default_factory=dict)
    route: RouteState = field(default_factory=RouteState)
    has_gateway_api: bool = False
    has_keda: bool = False


class Observer:
    """Sees what there is for one deployment."""

    def __init__(self, client: KubeClient, replicas: Replicas, *, owner: DeploymentRef) -> None:
        self._client = client
        self._replicas = replicas
        self._owner = owner

    async def observe(
        self, spec: ModelDeploymentSpec, status: ModelDeploymentStatus | None, *, now: datetime
    ) -> Snapshot:
        """Everything that is to be seen at `now`; `status` names the revisions to look for."""
        owner, client = self._owner, self._client
        has_gateway_api = spec.gateway is not None and await client.serves(HTTP_ROUTE.kind)
        # Also where no scaler is wanted: one that was may still be there.
        has_keda = await client.serves(SCALED_OBJECT.kind)
        kinds = [*REVISION_KINDS, *([SCALED_OBJECT] if has_keda else [])]
        listed = await asyncio.gather(
            client.list(MODEL_VERSION.kind, owner.namespace, labels=""),
            client.list(POD.kind, owner.namespace, labels=owner.selector),
            *(client.list(kind.kind, owner.namespace, labels=owner.selector) for kind in kinds),
        )
        versions, pods, *made = listed
        owned = {
            (kind.kind, item["metadata"]["name"]): item
            for kind, items in zip(kinds, made, strict=True)
            for item in items
            if owner.owns(item)
        }
        fronts = [SERVICE, *([HTTP_ROUTE] if has_gateway_api else [])]
        front = await self._read(kind.kind for kind in fronts)
        foreign = [place for place, item in front.items() if not owner.owns(item)]
        owned |= {place: item for place, item in front.items() if owner.owns(item)}
        foreign += await self._foreign(status, owned)
        candidate = status.candidate if status is not None else None
        mirrored = candidate.mirror if candidate is not None else 0
        route = await self._route(spec, owned, mirrored, has_gateway_api=has_gateway_api)
        asked = await self._ask(pods, status, now=now)
        return Snapshot(
            versions=available_versions(versions, spec, has_gateway=has_gateway_api),
            owned=owned,
            replicas=asked.replicas,
            reports=asked.reports,
            hosts=asked.hosts,
            base_pods=asked.base_pods,
            route=self._blocked(foreign, route, has_gateway_api=has_gateway_api),
            has_gateway_api=has_gateway_api,
            has_keda=has_keda,
        )

    async def _read(self, kinds: Iterable[str]) -> dict[Place, Manifest]:
        """The objects that have the deployment's own name."""
        owner = self._owner
        read = [(kind, await self._client.get(kind, owner.namespace, owner.name)) for kind in kinds]
        return {(kind, owner.name): item for kind, item in read if item is not None}

    async def _foreign(
        self, status: ModelDeploymentStatus | None, owned: Mapping[Place, Manifest]
    ) -> list[Place]:
        """What stands where something of a revision should; as a rule nothing is missing."""
        revisions = () if status is None else (status.stable, status.candidate)
        wanted = (
            (kind.kind, self._owner.name_of(name))
            for revision in revisions
            if revision is not None and revision.replicas
            for kind, name in (
                (DEPLOYMENT, revision.base.revision if revision.base else revision.revision),
                (SERVICE, revision.revision),
            )
        )
        foreign = []
        for kind, name in wanted:
            if (kind, name) in owned:
                continue
            item = await self._client.get(kind, self._owner.namespace, name)
            if item is not None and not self._owner.owns(item):
                foreign.append((kind, name))
        return foreign

    def _blocked(
        self, foreign: list[Place], route: RouteState, *, has_gateway_api: bool
    ) -> RouteState:
        # Behind a Gateway nobody needs a Service of the deployment's name.
        names = [
            f"{kind} {name}"
            for kind, name in foreign
            if not (has_gateway_api and (kind, name) == (SERVICE.kind, self._owner.name))
        ]
        if not names:
            return route
        message = (
            f"{names[0]} is not this deployment's, and is left as it is; delete it, or give the "
            "deployment another name"
        )
        return RouteState(failure=str(Reason.OWNED_BY_ANOTHER), message=message)

    async def _route(
        self,
        spec: ModelDeploymentSpec,
        owned: Mapping[Place, Manifest],
        mirror_percent: int,
        *,
        has_gateway_api: bool,
    ) -> RouteState:
        owner = self._owner
        if spec.gateway is None or not has_gateway_api:
            stored = owned.get((SERVICE.kind, owner.name))
            return service_state(stored, owner=owner, spec=spec)
        stored = owned.get((HTTP_ROUTE.kind, owner.name))
        place = spec.gateway.namespace or owner.namespace
        gateway: Manifest | None
        try:
            gateway = await self._client.get(GATEWAY.kind, place, spec.gateway.name)
        except ApiException as error:
            # An operator of some namespaces alone may not look into that of a shared Gateway.
            if error.status != FORBIDDEN:
                raise
            gateway = {}
        return route_state(
            stored, gateway, owner=owner, wanted=spec.gateway, mirror_percent=mirror_percent
        )

    async def _ask(
        self, pods: Iterable[Manifest], status: ModelDeploymentStatus | None, *, now: datetime
    ) -> "Asked":
        by_name = {pod["metadata"]["name"]: pod for pod in pods if label_of(pod, LABEL_REVISION)}
        addresses = {name: host for name, pod in by_name.items() if (host := host_of(pod))}
        told = await self._replicas.states(addresses)
        asked = Asked()
        held_by = adapters_by_base(revisions_in(status))
        for name, pod in by_name.items():
            state, report = replica_state(pod, told.get(name), now=now), told.get(name)
            held = held_by.get(state.revision, ())
            asked.add(state, report, held, address=addresses.get(name))
        return asked


@dataclass(slots=True)
class Asked:
    """What the pods have said, by adapter where they hold some."""

    replicas: tuple[ReplicaState, ...] = ()
    reports: dict[str, ReplicaReport] = field(default_factory=dict)
    hosts: dict[str, dict[str, str]] = field(default_factory=dict)
    base_pods: dict[str, BasePod] = field(default_factory=dict)

    def add(
        self,
        pod: ReplicaState,
        report: ReplicaReport | None,
        adapters: Iterable[str],
        *,
        address: str | None,
    ) -> None:
        """Take in what one pod has said; `adapters` are those that it is to hold."""
        states = adapter_states(pod, report, adapters)
        self.replicas += states
        if report is None or address is None:
            return
        for state in states:
            own = report if state is pod else report.adapter(state.revision)
            if own is not None:
                self.hosts.setdefault(state.revision, {})[state.name] = address
                self.reports[state.name] = own
        if states != (pod,):
            self.base_pods[pod.name] = BasePod(pod.revision, address, report)
