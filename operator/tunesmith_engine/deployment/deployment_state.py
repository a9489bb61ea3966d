"""What the steps of a deployment share: what is seen and asked for, and the revisions of now.

Every step takes a `Context` and a `DeploymentState` and returns the next state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from tunesmith_api.modeldeployment.monitoring_status import MonitoringStatus
from tunesmith_api.modeldeployment.rollout import Strategy
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import (
    CandidateStatus,
    DrainingStatus,
    ModelDeploymentStatus,
    RejectedVersion,
    RevisionStatus,
)
from tunesmith_engine.deployment.observations import Observations, ReplicaState, Route

# Percent of the requests.
ALL: Final = 100


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not done or not kept up: a reason, and a message with what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a step reads beside the state.

    `monitoring` is what is watched as it will be stored, `hold` why drift keeps a rollout where it
    is.
    """

    spec: ModelDeploymentSpec
    seen: Observations
    now: datetime
    monitoring: MonitoringStatus | None = None
    hold: Refusal | None = None

    def replicas_of(self, revision: str) -> list[ReplicaState]:
        """Its replicas, without those that were told to end."""
        return [
            replica
            for replica in self.seen.replicas
            if replica.revision == revision and not replica.is_stopping
        ]

    def num_ready(self, revision: str) -> int:
        """How many of its replicas answer."""
        return sum(replica.is_ready for replica in self.replicas_of(revision))

    def elapsed_s(self, since: datetime | None) -> float:
        """Seconds since then; 0 if it never was, or if the clock has been set back."""
        return max(0.0, (self.now - since).total_seconds()) if since else 0.0

    def ago(self, seconds: float) -> datetime:
        """The time so many seconds before now."""
        return self.now - timedelta(seconds=seconds)

    def has_traffic(self, revision: str) -> bool:
        """Whether the proxy is known to send requests, or copies, to the revision."""
        route = self.seen.route.in_use
        return route is not None and _has_traffic(route, revision)

    def is_without_traffic(self, revision: str) -> bool:
        """Whether the proxy is known to send it none; not the opposite of `has_traffic`."""
        route = self.seen.route.in_use
        return route is not None and not _has_traffic(route, revision)

    def is_in_use(self, route: Route) -> bool:
        """Whether the proxy routes as wanted, and not only in part."""
        in_use = self.seen.route.in_use
        if in_use is None or self.seen.route.failure is not None:
            return False
        return _significant(in_use) == _significant(route)

    @property
    def is_paused(self) -> bool:
        command = self.seen.command
        is_told = command is not None and command.verb == "pause"
        return self.spec.rollout.paused or is_told or self.hold is not None

    def is_told(self, verb: Literal["promote", "abort"], version: str) -> bool:
        """Whether a person asks for that, of this version and no other."""
        command = self.seen.command
        return command is not None and command.verb == verb and command.version == version

    @property
    def strategy(self) -> Strategy:
        """How a new version takes over: as asked for, or what the proxy is able to do."""
        return self.spec.rollout.strategy or ("canary" if self.seen.can_split else "blueGreen")

    def strategy_refusal(self, strategy: Strategy) -> Refusal | None:
        """Why the proxy cannot do it."""
        is_able = {"canary": self.seen.can_split, "shadow": self.seen.can_mirror}
        sticky = self.spec.rollout.sticky
        if is_able.get(strategy, True):
            is_split = strategy == "canary" and sticky not in {None, "none"}
            if not (is_split and self.seen.cannot_stick):
                return None
            return Refusal(
                "StrategyNotSupported", f"rollout.sticky {sticky}: {self.seen.cannot_stick}"
            )
        why = self.seen.cannot_split or "the proxy cannot; set rollout.strategy: blueGreen"
        return Refusal("StrategyNotSupported", f"rollout.strategy {strategy}: {why}")


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """The revisions of a deployment. Their weights are the wanted ones.

    Weights of stable and candidate add up to 100, or nothing is routed. `stable` with 0 replicas
    was stopped, to come back later; it may be draining at the same time.
    """

    stable: RevisionStatus | None = None
    candidate: CandidateStatus | None = None
    draining: tuple[DrainingStatus, ...] = ()
    rejected: tuple[RejectedVersion, ...] = ()

    @classmethod
    def observed(cls, status: ModelDeploymentStatus, context: Context) -> "DeploymentState":
        """What is stored, with the replicas that are ready now, and no time that is yet to come."""

        def update(revision: RevisionStatus, *times: str) -> dict[str, object]:
            ready = context.num_ready(revision.revision)
            stored = {name: getattr(revision, name) for name in ("since", *times)}
            # NB: a clock that is set back would else hold each wait up until it has caught up.
            return {"ready_replicas": ready} | {
                name: min(time, context.now) for name, time in stored.items() if time is not None
            }

        stable, candidate = status.stable, status.candidate
        latest = context.now + timedelta(seconds=context.spec.rollout.drain_seconds)
        return cls(
            stable=stable and stable.model_copy(update=update(stable)),
            candidate=candidate
            and candidate.model_copy(
                update=update(
                    candidate, "step_since", "analysis_since", "waiting_since", "unready_since"
                )
            ),
            draining=tuple(
                drain.model_copy(
                    update=update(drain, "quiet_since") | {"deadline": min(drain.deadline, latest)}
                )
                for drain in status.draining
            ),
            rejected=tuple(status.rejected),
        )

    @property
    def route(self) -> Route:
        """The route that the weights make."""
        weights = {
            revision.revision: revision.weight
            for revision in (self.stable, self.candidate)
            if revision is not None and revision.weight
        }
        if self.candidate is None or not self.candidate.mirror:
            return Route(weights=weights)
        return Route(weights, self.candidate.revision, self.candidate.mirror)

    @property
    def is_stable_running(self) -> bool:
        """Whether stable has replicas that could take all requests."""
        return self.stable is not None and self.stable.ready_replicas > 0

    @property
    def is_stable_rejected(self) -> bool:
        """Whether stable was rejected while it served, and only serves until another one can."""
        stable = self.stable
        return stable is not None and any(
            entry.revision == stable.revision for entry in self.rejected
        )

    def strategy(self, context: Context) -> Strategy:
        """How the next candidate takes over; with a stable that answers wrongly none compares."""
        if self.is_stable_rejected:
            return "recreate" if context.spec.rollout.strategy == "recreate" else "blueGreen"
        return context.strategy

    def is_draining(self, revision: str) -> bool:
        return any(drain.revision == revision for drain in self.draining)

    def with_candidate(self, candidate: CandidateStatus, **fields: Any) -> "DeploymentState":
        """The state with that candidate, whose fields are replaced."""
        return replace(self, candidate=candidate.model_copy(update=fields))


def _has_traffic(route: Route, revision: str) -> bool:
    is_mirrored = route.mirror == revision and route.mirror_percent > 0
    return is_mirrored or route.weights.get(revision, 0) > 0


def _significant(route: Route) -> tuple[Mapping[str, int], str | None, int]:
    """A route without what sends nothing anywhere."""
    weights = {revision: weight for revision, weight in route.weights.items() if weight}
    percent = route.mirror_percent if route.mirror is not None else 0
    return weights, route.mirror if percent else None, percent
