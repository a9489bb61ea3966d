"""What serves: its replicas, suspension, faults, and how often the status is written."""

from collections.abc import Callable
from itertools import pairwise

from deployment_world import World, a_spec, a_version
from tunesmith_engine.deployment.advance import advance

Serving = Callable[..., World]


def test_scaling_starts_no_rollout(serving: Serving) -> None:
    world = serving()
    assert world.status is not None
    before = world.status.stable
    world.spec = a_spec(replicas=3)

    status = world.run()

    assert before is not None
    assert status.stable is not None
    assert status.stable.revision == before.revision
    assert (status.stable.ready_replicas, status.ready_replicas) == (3, 3)
    assert not any(decision.status.candidate for decision in world.decisions[-5:])


def test_scaling_down_in_the_middle_of_a_rollout(serving: Serving) -> None:
    world = serving(replicas=4)
    world.versions.append(a_version("v2", created=10))
    world.run_until("Promoting")
    world.spec = a_spec(replicas=1)

    status = world.run()

    assert status.stable is not None
    assert (status.stable.version, status.stable.replicas) == ("v2", 1)


def test_suspension_drains_everything_and_stable_comes_back(serving: Serving) -> None:
    world = serving(replicas=2)
    world.versions.append(a_version("v2", created=10))
    world.run_until("Analyzing")
    world.spec = a_spec(replicas=2, suspend=True)

    status = world.run()

    assert status.phase == "Suspended"
    assert not world.replicas
    assert not world.desired.route.weights
    assert status.candidate is None
    assert not status.rejected
    assert status.stable is not None
    assert (status.stable.version, status.stable.replicas) == ("v1", 0)
    assert world.condition("Reconciling")[0] == "False"

    world.spec = a_spec(replicas=2)
    assert world.run_until("Starting").version == "v2"
    status = world.run()
    assert status.stable is not None
    assert (status.stable.version, status.stable.ready_replicas) == ("v2", 2)


def test_a_stable_that_is_down_is_told_and_kept(serving: Serving) -> None:
    world = serving()
    world.health["v1"] = "failing"
    world.step()

    assert world.status is not None
    assert world.status.phase == "Failed"
    assert world.condition("Available")[0] == "False"
    assert world.condition("Stalled")[:2] == ("True", "WrongDigest")
    assert world.desired.route.weights
    assert not world.status.rejected

    world.health["v1"] = "good"
    world.run()
    assert world.condition("Ready")[0] == "True"


def test_one_lost_replica_of_several_leaves_it_available(serving: Serving) -> None:
    world = serving(replicas=2)
    world.kill(next(iter(world.replicas)))
    world.step()

    assert world.condition("Available")[0] == "True"
    assert world.condition("Ready")[:2] == ("False", "Deploying")
    assert world.condition("Reconciling")[0] == "True"


def test_a_look_that_finds_nothing_new_gives_the_very_same_status(serving: Serving) -> None:
    world = serving()
    world.generation = 7
    world.step()
    assert world.status is not None
    assert world.status.observed_generation == 7

    decision = advance(world.spec, world.status, world.observations(), generation=7, now=world.now)

    assert decision.status is world.status
    assert decision.wake_at is None


def test_a_long_analysis_writes_the_status_at_most_every_half_minute(serving: Serving) -> None:
    world = serving()
    world.versions.append(a_version("v2", created=10))
    world.run_until("Analyzing")
    world.judged_after_s = 1e9
    world.step()
    world.decisions.clear()
    began = world.seconds
    assert world.status is not None
    assert world.status.candidate is not None
    revision = world.status.candidate.revision
    while world.seconds - began < 600:
        world.route_overrides = {"achieved": {revision: 4.0 + len(world.decisions) % 3}}
        world.step(seconds=2)

    statuses = [decision.status for decision in world.decisions]
    writes = sum(one != other for one, other in pairwise(statuses))
    assert writes <= 600 / 30 + 10


def test_an_executor_that_looks_again_makes_the_same(serving: Serving) -> None:
    """What is wanted follows from the stored status, not from the way there."""
    world = serving(replicas=2)
    world.versions.append(a_version("v2", created=10))
    for _ in range(30):
        decision = world.step(seconds=0.0)
        again = world.step(seconds=0.0)
        if again.status == decision.status:
            assert again.desired == decision.desired
        world.pass_time(5)
