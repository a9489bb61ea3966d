"""The other ways from one version to the next, and a proxy that cannot do what is asked for."""

from collections.abc import Callable

import pytest

from deployment_world import World, a_spec, a_version

Serving = Callable[..., World]


def test_a_shadow_gets_copies_and_then_everything_at_once(serving: Serving) -> None:
    world = serving(replicas=2, rollout={"strategy": "shadow"})
    world.versions.append(a_version("v2", created=10))

    status = world.run()

    assert status.stable is not None
    assert status.stable.version == "v2"
    v2 = status.stable.revision
    routes = [decision.desired.route for decision in world.decisions]
    assert {route.mirror_percent for route in routes} == {0, 5, 25}
    assert {route.weights.get(v2, 0) for route in routes} == {0, 100}
    assert all(route.mirror in {None, v2} for route in routes)


def test_blue_green_waits_for_all_replicas_and_flips(serving: Serving) -> None:
    world = serving(replicas=3, rollout={"strategy": "blueGreen"})
    world.versions.append(a_version("v2", created=10))

    status = world.run()

    assert status.stable is not None
    assert status.stable.version == "v2"
    routes = [set(decision.desired.route.weights.values()) for decision in world.decisions]
    assert all(weights <= {100} for weights in routes)


def test_recreate_never_runs_both(serving: Serving) -> None:
    world = serving(replicas=2, rollout={"strategy": "recreate"})
    world.versions.append(a_version("v2", created=10))
    for _ in range(100):
        world.step()
        assert len({replica.version for replica in world.replicas.values()}) <= 1

    assert world.status is not None
    assert world.status.stable is not None
    assert world.status.stable.version == "v2"


def test_recreate_comes_back_to_the_old_one(serving: Serving) -> None:
    world = serving(replicas=2, rollout={"strategy": "recreate"})
    world.health["v2"] = "failing"
    world.versions.append(a_version("v2", created=10))

    status = world.run()

    assert status.stable is not None
    assert (status.stable.version, status.stable.ready_replicas) == ("v1", 2)
    assert [entry.version for entry in status.rejected] == ["v2"]


@pytest.mark.parametrize("strategy", ["canary", "shadow"])
def test_what_the_proxy_cannot_do_is_refused_with_its_reason(
    serving: Serving, strategy: str
) -> None:
    world = serving()
    world.overrides = {
        "can_split": False,
        "can_mirror": False,
        "cannot_split": "no HTTPRoute here; install the Gateway API",
    }
    world.spec = a_spec(rollout={"strategy": strategy})
    world.versions.append(a_version("v2", created=10))

    status = world.run()

    assert status.candidate is None
    assert status.stable is not None
    assert status.stable.version == "v1"
    stalled = world.condition("Stalled")
    assert stalled[:2] == ("True", "StrategyNotSupported")
    assert "install the Gateway API" in stalled[2]


@pytest.mark.parametrize("sticky", ["conversation", "apiKey"])
def test_a_canary_that_would_tear_conversations_apart_is_refused(
    serving: Serving, sticky: str
) -> None:
    world = serving()
    world.overrides = {"cannot_stick": "a Gateway splits request by request; leave it out"}
    world.spec = a_spec(rollout={"sticky": sticky})
    world.versions.append(a_version("v2", created=10))

    assert world.run().candidate is None
    stalled = world.condition("Stalled")
    assert stalled[:2] == ("True", "StrategyNotSupported")
    assert f"rollout.sticky {sticky}: a Gateway splits request by request" in stalled[2]


@pytest.mark.parametrize(
    "rollout", [{"sticky": "none"}, {}, {"sticky": "conversation", "strategy": "blueGreen"}]
)
def test_where_nothing_has_to_stick_nothing_is_refused(
    serving: Serving, rollout: dict[str, str]
) -> None:
    world = serving()
    world.overrides = {"cannot_stick": "a Gateway splits request by request"}
    world.spec = a_spec(rollout=rollout)
    world.versions.append(a_version("v2", created=10))

    assert world.run_until("Starting").version == "v2"


def test_without_a_strategy_the_proxy_decides(serving: Serving) -> None:
    world = serving()
    world.overrides = {"can_split": False, "can_mirror": False}
    world.versions.append(a_version("v2", created=10))

    assert world.run_until("Starting").strategy == "blueGreen"
    world.run()
    world.overrides = {}
    world.versions.append(a_version("v3", created=20))
    assert world.run_until("Starting").strategy == "canary"


def test_the_first_version_needs_no_split() -> None:
    world = World(spec=a_spec(rollout={"strategy": "canary"}), versions=[a_version("v1")])
    world.overrides = {"can_split": False}
    world.step()
    assert world.condition("Stalled")[0] == "False"

    assert world.run().phase == "Serving"
