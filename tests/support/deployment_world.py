"""A world for one deployment: an executor without processes, for tests of `advance`.

A `World` stores the status and then makes everything as `desired` says, as an executor does, or is
killed in between. Replicas take time to get ready, routes to come into use, requests to end. What
must hold at every moment is checked at every step.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from tunesmith_api.modeldeployment.limits import Metric
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import CandidateStatus, ModelDeploymentStatus
from tunesmith_engine.deployment.advance import advance
from tunesmith_engine.deployment.observations import (
    AvailableVersion,
    Command,
    Decision,
    Desired,
    DesiredRevision,
    Monitored,
    Observations,
    ReplicaState,
    RetrainNews,
    Route,
    RouteState,
)
from tunesmith_engine.rollout.evidence import Outlook
from tunesmith_engine.rollout.judge import Cause, Evidence, Verdict
from tunesmith_engine.rollout.judge import Decision as Judgement

START = datetime(2026, 11, 27, 12, tzinfo=UTC)
# "wrong" answers otherwise than its version did when it was judged.
Health = Literal["good", "worse", "crashing", "failing", "stuck", "wrong"]
_FAILURES: dict[Health, str] = {"failing": "WrongDigest", "wrong": "FingerprintMismatch"}


def a_spec(**fields: Any) -> ModelDeploymentSpec:
    """The smallest spec, with fields as in a manifest."""
    return ModelDeploymentSpec.model_validate({"model": "helpdesk", **fields})


def a_version(name: str, *, created: float = 0.0, **fields: Any) -> AvailableVersion:
    """A version of that name, published so many seconds after the start."""
    given: dict[str, Any] = {
        "digest": f"sha256:{name}",
        "uri": f"file:///models/{name}",
        "created": START + timedelta(seconds=created),
        "num_bytes": 1,
    }
    return AvailableVersion(version=name, **(given | fields))


def a_verdict(decision: str, *, is_final: bool | None = None, more: int | None = None) -> Verdict:
    """A verdict on latency, with numbers that fit the decision."""
    cause = {"promote": Cause.NO_WORSE, "rollback": Cause.WORSE}.get(
        decision, Cause.DEADLINE_EXCEEDED if is_final else Cause.EVIDENCE_PENDING
    )
    effect = 0.43 if decision == "rollback" else 0.01
    evidence = Evidence(
        metric=Metric.TTFT_P90,
        effect=effect,
        lower=effect - 0.2,
        upper=float("inf"),
        harm=25.0,
        promotion=0.5,
        num_stable=300,
        num_candidate=340,
        outlook=Outlook("promote", more),
    )
    return Verdict(
        decision=Judgement(decision),
        cause=cause,
        is_final=decision != "inconclusive" if is_final is None else is_final,
        at_seconds=60.0,
        harm=25.0,
        metric=Metric.TTFT_P90,
        more_requests=more,
        evidence=(evidence,),
    )


@dataclass
class Replica:
    """One process of a revision; `began` and `last_request` are in seconds of the world."""

    revision: str
    version: str
    began: float
    last_request: float | None = None
    accepted: int = 0
    was_ready: bool = False


@dataclass
class World:
    """A deployment and all around it.

    `health` says of each version how it does; `judged_after_s` how long the judge takes,
    None for a judge that never hears of a request. `now` is the clock on the wall, which a test may
    set; `seconds` are those that have really passed. `scaled` are the replicas that a scaler gives
    a version, whatever its revision says.
    """

    spec: ModelDeploymentSpec = field(default_factory=a_spec)
    versions: list[AvailableVersion] = field(default_factory=list)
    health: dict[str, Health] = field(default_factory=dict)
    status: ModelDeploymentStatus | None = None
    now: datetime = START
    seconds: float = 0.0
    start_s: float = 20.0
    route_s: float = 3.0
    request_s: float = 10.0
    judged_after_s: float | None = 90.0
    has_traffic: bool = True
    generation: int = 1
    overrides: dict[str, Any] = field(default_factory=dict)
    route_overrides: dict[str, Any] = field(default_factory=dict)
    command: Command | None = None
    monitored: Monitored | None = None
    retrain_news: RetrainNews | None = None
    replicas: dict[str, Replica] = field(default_factory=dict)
    desired: Desired = field(default_factory=Desired)
    in_use: Route | None = None
    applied_at: float = 0.0
    unreachable: set[str] = field(default_factory=set)
    scaled: dict[str, int] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    num_born: int = 0

    # What is seen

    def observations(self) -> Observations:
        """Everything as it is now."""
        fields: dict[str, Any] = {
            "versions": tuple(self.versions),
            "replicas": tuple(self.replica_state(name) for name in self.replicas),
            "route": replace(
                RouteState(in_use=self.in_use, endpoint="http://localhost:8000/v1"),
                **self.route_overrides,
            ),
            "verdict": self.verdict(),
            "command": self.command,
            "monitored": self.monitored,
            "retrain_news": self.retrain_news,
        }
        return Observations(**(fields | self.overrides))

    def replica_state(self, name: str) -> ReplicaState:
        replica = self.replicas[name]
        health = self.health.get(replica.version, "good")
        age = self.seconds - replica.began
        is_up = age >= self.start_s and name not in self.unreachable
        running = self.num_running(replica)
        quiet_since = max(replica.last_request or 0.0, replica.began)
        return ReplicaState(
            name=name,
            revision=replica.revision,
            is_ready=is_up and health in {"good", "worse"},
            is_reachable=is_up,
            running=running if is_up else None,
            accepted=replica.accepted if is_up else None,
            quiet_seconds=self.seconds - quiet_since if is_up else None,
            restarts=int(age // 10) if health == "crashing" else 0,
            failure=_FAILURES.get(health) if age >= self.start_s else None,
            message="" if health in {"good", "worse"} else f"it is {health}",
        )

    def num_running(self, replica: Replica) -> int:
        """Requests that the replica has under way."""
        if replica.last_request is None:
            return 0
        return int(self.seconds - replica.last_request < self.request_s)

    def verdict(self) -> Verdict | None:
        candidate = self.status.candidate if self.status else None
        if candidate is None or candidate.analysis_since is None or self.judged_after_s is None:
            return None
        elapsed = (self.now - candidate.analysis_since).total_seconds()
        if elapsed < self.spec.rollout.analysis.window_seconds:
            return None
        if elapsed < self.judged_after_s:
            return a_verdict("inconclusive", more=100)
        is_worse = self.health.get(candidate.version) == "worse"
        return a_verdict("rollback" if is_worse else "promote")

    def condition(self, type_: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition as stored."""
        stored = self.status.conditions if self.status else []
        condition = next(entry for entry in stored if entry.type == type_)
        return condition.status, condition.reason, condition.message

    # What happens

    def step(
        self,
        *,
        seconds: float | None = None,
        killed_after: Literal["status", "replicas"] | None = None,
    ) -> Decision:
        """One look of the executor; then time goes on, by default until it has to look again.

        It may be killed when it has stored the status, or when the replicas are as they should be
        and the route is not.
        """
        decision = advance(
            self.spec, self.status, self.observations(), generation=self.generation, now=self.now
        )
        # Stored as JSON, as in a cluster and on a laptop.
        stored = decision.status.model_dump_json(by_alias=True)
        self.status = ModelDeploymentStatus.model_validate_json(stored)
        assert self.status == decision.status
        self.decisions.append(decision)
        self.check(decision)
        if killed_after == "replicas":
            self.apply(replace(decision.desired, route=self.desired.route))
        elif killed_after is None:
            self.apply(decision.desired)
        self.pass_time(self._wait_s(decision) if seconds is None else seconds)
        return decision

    def run(self, steps: int = 400) -> ModelDeploymentStatus:
        """Look until nothing more has to happen, or a rollout goes no further."""
        for _ in range(steps):
            decision = self.step()
            if decision.wake_at is None:
                break
        assert self.status is not None
        return self.status

    def run_until(self, state: str, *, steps: int = 200) -> CandidateStatus:
        """Look until the candidate is in that state."""
        for _ in range(steps):
            if self.status and self.status.candidate and self.status.candidate.state == state:
                return self.status.candidate
            self.step()
        raise AssertionError(f"no candidate is {state}: {self.status}")

    def apply(self, desired: Desired) -> None:
        """Make it so: replicas that are missing or too many, and the route."""
        if desired.route != self.desired.route:
            self.applied_at = self.seconds
        self.desired = desired
        wanted = {revision.revision: revision for revision in desired.revisions}
        for name, replica in list(self.replicas.items()):
            if replica.revision not in wanted:
                del self.replicas[name]
        for revision in desired.revisions:
            names = [name for name in self.replicas if name.startswith(f"{revision.revision}-")]
            replicas = self.scaled.get(revision.version, revision.replicas)
            for name in names[replicas:]:
                del self.replicas[name]
            if not revision.is_draining:
                self._start(revision, replicas - len(names))

    def pass_time(self, seconds: float) -> None:
        """Time goes on, the proxy takes up the route, requests come and end."""
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds
        if self.seconds - self.applied_at >= self.route_s:
            self.in_use = self.desired.route
        for name, replica in self.replicas.items():
            replica.was_ready = replica.was_ready or self.replica_state(name).is_ready
            route = self.in_use or Route()
            gets = route.weights.get(replica.revision, 0) or route.mirror == replica.revision
            if self.has_traffic and gets and replica.was_ready:
                replica.last_request = self.seconds
                replica.accepted += 1

    def kill(self, name: str) -> None:
        """A replica dies; the executor starts another one."""
        del self.replicas[name]
        self.apply(self.desired)

    # What must hold

    def check(self, decision: Decision) -> None:
        """The promises that no step may break."""
        status, desired = decision.status, decision.desired
        names = {revision.revision for revision in desired.revisions}
        weights = desired.route.weights
        assert len(names) == len(desired.revisions), "a revision is wanted twice"
        assert not weights or sum(weights.values()) == 100, weights
        assert set(weights) <= names, "requests to a revision that is not wanted"
        for revision in weights:
            was_ready = any(
                self.replica_state(name).is_ready or self.replicas[name].was_ready
                for name in self.replicas
                if self.replicas[name].revision == revision
            )
            self.served |= {revision} if was_ready else set()
            assert revision in self.served, f"requests to {revision}, which was never ready"
        for name, replica in self.replicas.items():
            if replica.revision not in names:
                self._check_removal(name, replica)
        rejected = {entry.revision for entry in status.rejected}
        candidate = status.candidate
        if candidate is not None and candidate.state != "RollingBack":
            assert candidate.revision not in rejected, "a rejected revision came back"

    def _check_removal(self, name: str, replica: Replica) -> None:
        weights = self.in_use.weights if self.in_use else {}
        assert not weights.get(replica.revision), f"{name} goes while the proxy sends it requests"
        before = self.decisions[-2].status if len(self.decisions) > 1 else None
        drains = before.draining if before else []
        deadlines = [drain.deadline for drain in drains if drain.revision == replica.revision]
        is_late = any(self.now >= deadline for deadline in deadlines)
        assert is_late or not self.num_running(replica), f"{name} goes with requests under way"

    def _wait_s(self, decision: Decision) -> float:
        if decision.wake_at is None:
            return 5.0
        return max(0.5, (decision.wake_at - self.now).total_seconds())

    def _start(self, revision: DesiredRevision, missing: int) -> None:
        for _ in range(missing):
            self.num_born += 1
            self.replicas[f"{revision.revision}-{self.num_born}"] = Replica(
                revision=revision.revision, version=revision.version, began=self.seconds
            )
