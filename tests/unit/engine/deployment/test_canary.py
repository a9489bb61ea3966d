"""A canary from its first replica to its end: steps, verdicts, breakers, and what holds it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from deployment_world import Health, World, a_spec, a_verdict, a_version
from tunesmith_engine.deployment.observations import Command

Serving = Callable[..., World]


def with_canary(serving: Serving, *, health: Health = "good", **spec: Any) -> World:
    """A world in which v2 is a candidate that is not started yet."""
    world = serving(**spec)
    world.health["v2"] = health
    world.versions.append(a_version("v2", created=10))
    return world


def weights_of(world: World) -> list[int]:
    """The weights that the candidate had, each once."""
    weights = [
        decision.status.candidate.weight
        for decision in world.decisions
        if decision.status.candidate is not None and decision.status.stable is not None
    ]
    return sorted(set(weights))


def test_it_goes_step_by_step_and_takes_over(serving: Serving) -> None:
    world = with_canary(serving, replicas=4)
    world.judged_after_s = 400

    status = world.run()

    assert status.stable is not None
    assert (status.stable.version, status.stable.weight, status.phase) == ("v2", 100, "Serving")
    assert weights_of(world) == [0, 5, 25, 50, 100]
    assert world.condition("Ready")[0] == "True"
    assert status.last_verdict is not None
    assert status.last_verdict.decision == "promote"


def test_replicas_grow_with_the_weight_and_are_ready_before_it(serving: Serving) -> None:
    world = with_canary(serving, replicas=4)
    world.judged_after_s = 400

    world.run()

    least = {5: 1, 25: 1, 50: 2, 100: 4}
    for decision in world.decisions:
        candidate = decision.status.candidate
        if candidate is not None and candidate.weight and decision.status.stable is not None:
            assert candidate.ready_replicas >= least[candidate.weight]


def test_it_takes_over_with_as_many_replicas_as_a_scaler_gave_stable(serving: Serving) -> None:
    world = with_canary(serving, autoscaling={"maxReplicas": 5})
    world.scaled["v1"] = 7
    world.judged_after_s = 400

    world.run()

    # No more than the scaler may give.
    most = [d.status.candidate.replicas for d in world.decisions if d.status.candidate is not None]
    assert max(most) == 5


def test_a_step_begins_when_the_proxy_routes_by_it(serving: Serving) -> None:
    world = with_canary(serving)
    world.run_until("Analyzing")
    world.route_s = 1e9

    for _ in range(50):
        world.step()

    assert world.status is not None
    assert world.status.candidate is not None
    assert world.status.candidate.step_since is None
    assert world.decisions[-1].recording is None


def test_samples_are_recorded_while_it_is_judged_and_not_before(serving: Serving) -> None:
    world = with_canary(serving)
    world.run()

    for decision in world.decisions:
        candidate = decision.status.candidate
        is_judged = candidate is not None and candidate.analysis_since is not None
        assert decision.wants_samples == (
            candidate is not None and is_judged and candidate.state == "Analyzing"
        )


def test_a_worse_one_is_taken_back_and_the_numbers_are_told(serving: Serving) -> None:
    world = with_canary(serving, health="worse")

    status = world.run()

    assert status.stable is not None
    assert status.stable.version == "v1"
    (rejected,) = status.rejected
    assert rejected.reason == "AnalysisFailed"
    assert "ttftP90 +43 %" in rejected.message
    assert "340 requests" in rejected.message
    assert world.condition("RolledBack")[:2] == ("True", "RolledBack")
    assert world.condition("Stalled")[0] == "True"
    assert world.condition("Ready")[:2] == ("False", "RolledBack")
    assert world.condition("Available")[0] == "True"
    assert status.last_verdict is not None
    assert status.last_verdict.evidence[0].upper is None  # unbounded, for which JSON has no number


@pytest.mark.parametrize(
    ("health", "reason"),
    [("crashing", "ReplicaCrashed"), ("failing", "WrongDigest")],
)
def test_a_breaker_needs_no_judge(serving: Serving, health: Health, reason: str) -> None:
    world = with_canary(serving)
    world.run_until("Analyzing")
    world.judged_after_s = None
    world.health["v2"] = health

    status = world.run()

    assert [entry.reason for entry in status.rejected] == [reason]
    assert status.stable is not None
    assert status.stable.weight == 100


def test_a_replica_that_is_lost_for_a_minute_rolls_back(serving: Serving) -> None:
    """Hanging with /health at 200: it is not ready by its own word."""
    world = with_canary(serving)
    world.run_until("Analyzing")
    world.health["v2"] = "stuck"
    world.judged_after_s = None
    began = world.now

    world.run_until("RollingBack")

    assert world.status is not None
    assert world.status.rejected[0].reason == "ReplicaNotReady"
    assert 60 <= (world.now - began).total_seconds() <= 100


def test_what_never_gets_ready_is_rejected_at_its_deadline(serving: Serving) -> None:
    world = with_canary(serving, health="stuck", rollout={"progressDeadlineSeconds": 100})

    status = world.run()

    assert [entry.reason for entry in status.rejected] == ["ProgressDeadlineExceeded"]
    assert "it is stuck" in status.rejected[0].message
    assert weights_of(world) == [0]


@pytest.mark.parametrize(
    ("what", "stable"), [("hold", "v1"), ("promote", "v2"), ("rollback", "v1")]
)
@pytest.mark.parametrize("judged_after_s", [1e9, None])
def test_without_a_verdict_the_spec_decides(
    serving: Serving, what: str, stable: str, judged_after_s: float | None
) -> None:
    """Nobody sends requests, or nobody can read the metrics."""
    rollout = {"onInconclusive": what, "analysis": {"deadlineSeconds": 200}}
    world = with_canary(serving, rollout=rollout)
    world.judged_after_s = judged_after_s
    world.has_traffic = False
    for _ in range(100):
        world.step()

    status = world.status
    assert status is not None
    assert status.stable is not None
    assert status.stable.version == stable
    if what == "hold":
        assert status.candidate is not None
        assert world.condition("Stalled")[:2] == ("True", "AnalysisInconclusive")
        told = "about 100 more requests would settle" if judged_after_s else "no metrics"
        assert told in world.condition("Ready")[2]
    if what == "rollback":
        assert [entry.reason for entry in status.rejected] == ["AnalysisInconclusive"]


def test_pause_holds_the_weights_and_not_the_breakers(serving: Serving) -> None:
    world = with_canary(serving)
    candidate = world.run_until("Analyzing")
    world.command = Command("pause")
    for _ in range(40):
        world.step()

    assert world.status is not None
    assert world.status.phase == "Paused"
    assert world.status.candidate is not None
    assert world.status.candidate.weight == candidate.weight == 5

    world.health["v2"] = "failing"
    assert [entry.version for entry in world.run().rejected] == ["v2"]


def test_a_person_promotes_without_the_judge(serving: Serving) -> None:
    world = with_canary(serving)
    world.judged_after_s = None
    world.run_until("Analyzing")
    world.command = Command("promote", "v2")

    status = world.run()

    assert status.stable is not None
    assert status.stable.version == "v2"


def test_a_command_for_another_version_hits_nobody(serving: Serving) -> None:
    world = with_canary(serving)
    world.run_until("Analyzing")
    world.command = Command("abort", "v1")

    status = world.run()

    assert status.stable is not None
    assert status.stable.version == "v2"


def test_a_person_aborts_and_it_is_not_tried_again(serving: Serving) -> None:
    world = with_canary(serving)
    world.run_until("Analyzing")
    world.command = Command("abort", "v2")
    world.run_until("RollingBack")
    world.command = None

    status = world.run()

    assert [entry.reason for entry in status.rejected] == ["Aborted"]
    assert status.candidate is None


def test_a_clock_that_is_set_back_holds_nothing_up(serving: Serving) -> None:
    world = with_canary(serving)
    candidate = world.run_until("Analyzing")
    while candidate.step_since is None:
        world.step()
        candidate = world.run_until("Analyzing")
    world.now -= timedelta(days=365)
    world.judged_after_s = 400

    looks = len(world.decisions)
    status = world.run()

    assert status.stable is not None
    assert status.stable.version == "v2"
    assert len(world.decisions) - looks < 100


def test_steps_that_change_half_way_are_taken_up(serving: Serving) -> None:
    """Fewer steps than the candidate has gone, and other weights."""
    world = with_canary(serving)
    world.judged_after_s = 1e9
    candidate = world.run_until("Analyzing")
    while candidate.step < 2:
        world.step()
        assert world.status is not None
        assert world.status.candidate is not None
        candidate = world.status.candidate
    world.spec = a_spec(rollout={"steps": [{"weight": 10}, {"weight": 20}]})
    for _ in range(5):
        world.step()

    assert world.status is not None
    assert world.status.candidate is not None
    assert (world.status.candidate.state, world.status.candidate.weight) == ("Analyzing", 20)

    world.judged_after_s = 0
    assert world.run().candidate is None


def test_a_strategy_that_changes_half_way_starts_over_without_requests(serving: Serving) -> None:
    world = with_canary(serving)
    world.run_until("Analyzing")
    world.spec = a_spec(rollout={"strategy": "shadow"})
    world.step()

    assert world.status is not None
    assert world.status.candidate is not None
    assert (world.status.candidate.weight, world.status.candidate.mirror) in {(0, 0), (0, 5)}

    status = world.run()
    assert status.stable is not None
    assert status.stable.version == "v2"


def test_a_proxy_that_cannot_split_any_more_promotes_nobody(serving: Serving) -> None:
    world = with_canary(serving)
    world.run_until("Analyzing")
    world.overrides = {"can_split": False, "cannot_split": "the Gateway is gone; create it"}
    for _ in range(100):
        world.step()

    assert world.status is not None
    assert world.status.stable is not None
    assert world.status.stable.version == "v1"
    assert world.condition("Stalled")[:2] == ("True", "StrategyNotSupported")


@pytest.mark.parametrize("reason", ["OwnedByAnother", "ProxyDown", "RouteNotAccepted"])
def test_no_step_is_taken_while_the_route_fails(serving: Serving, reason: str) -> None:
    world = with_canary(serving)
    world.run_until("Analyzing")
    world.route_overrides = {"failure": reason, "message": "mend it"}
    for _ in range(60):
        world.step()

    assert world.status is not None
    assert world.status.candidate is not None
    assert world.status.candidate.weight == 5
    assert world.condition("Stalled") == ("True", reason, "mend it")
    assert world.condition("Ready")[:2] == ("False", reason)

    world.route_overrides = {}
    assert world.run().candidate is None


def test_stale_words_of_the_judge_promote_nobody(serving: Serving) -> None:
    """A verdict on the candidate before is not one on a candidate that has no requests yet."""
    world = with_canary(serving)
    world.overrides = {"verdict": a_verdict("promote")}
    candidate = world.run_until("Analyzing")
    world.step(seconds=0.5)

    assert candidate.state == "Analyzing"
    assert world.status is not None
    assert world.status.candidate is not None
    assert world.status.candidate.state == "Analyzing"


def test_at_full_weight_nothing_goes_back_to_a_stable_that_is_down(serving: Serving) -> None:
    world = with_canary(serving, rollout={"steps": [{"weight": 100}]})
    world.run_until("Analyzing")
    world.step()
    world.health |= {"v1": "stuck", "v2": "worse"}
    world.judged_after_s = 0
    for _ in range(30):
        world.step()

    assert world.status is not None
    assert world.status.candidate is not None
    assert world.status.candidate.weight == 100


def test_a_candidate_whose_replicas_die_before_it_takes_over_gets_no_request_yet() -> None:
    """Between the look that lets it take over and the one that moves the requests."""
    world = World(versions=[a_version("v1")])
    world.run_until("Promoting")
    world.kill(next(iter(world.replicas)))
    world.step()
    assert world.desired.route.weights == {}
    status = world.run()

    assert status.stable is not None
    assert status.stable.ready_replicas == 1
