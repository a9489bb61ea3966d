"""Nothing is stopped while it answers, and nothing answers for ever."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from deployment_world import World, a_spec, a_version

Serving = Callable[..., World]


def draining(serving: Serving) -> World:
    """A world in which v2 has just taken over from v1."""
    world = serving(rollout={"strategy": "blueGreen", "drainSeconds": 100})
    world.versions.append(a_version("v2", created=10))
    for _ in range(100):
        world.step()
        if world.status and world.status.draining:
            return world
    raise AssertionError("v1 never drains")


def test_it_goes_when_its_last_request_is_answered(serving: Serving) -> None:
    world = draining(serving)
    began = world.seconds
    (drain,) = world.desired.revisions[1:]
    assert drain.is_draining
    assert drain.revision not in world.desired.route.weights

    world.run()

    assert world.seconds - began < 30
    assert [replica.version for replica in world.replicas.values()] == ["v2"]


@pytest.mark.parametrize("trouble", ["long request", "unreachable"])
def test_it_goes_at_its_deadline(serving: Serving, trouble: str) -> None:
    world = draining(serving)
    began = world.seconds
    if trouble == "unreachable":
        world.unreachable = {name for name, r in world.replicas.items() if r.version == "v1"}
    else:
        world.request_s = 1e9

    world.run()

    assert 90 <= world.seconds - began <= 130
    assert [replica.version for replica in world.replicas.values()] == ["v2"]


def test_the_deadline_counts_from_when_the_route_lets_go(serving: Serving) -> None:
    """Nothing is taken from a revision that the proxy still sends requests to."""
    world = draining(serving)
    assert world.status is not None
    v1 = world.status.draining[0].revision
    world.request_s = 1e9
    assert world.in_use is not None
    world.route_overrides = {"in_use": replace(world.in_use, weights={v1: 100})}
    for _ in range(50):
        world.step()
    assert v1 in {revision.revision for revision in world.desired.revisions}

    world.route_overrides = {}
    began = world.seconds
    world.run()
    assert world.seconds - began >= 95


def test_one_that_is_wanted_again_stops_draining(serving: Serving) -> None:
    world = draining(serving)
    before = {name for name, replica in world.replicas.items() if replica.version == "v1"}
    world.spec = a_spec(version="v1", rollout={"strategy": "blueGreen"})

    status = world.run()

    assert status.stable is not None
    assert status.stable.version == "v1"
    assert set(world.replicas) == before
