"""Whatever happens, and in whatever order: what must hold does, and it ends as it should.

`World.check` looks at every step that traffic goes where it may, nothing is stopped too early, and
no rejected revision comes back.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployment_world import START, Health, World, a_spec, a_version
from tunesmith_api.modeldeployment.monitoring_status import TrafficStatus
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import Command, Monitored

STRATEGIES: Final = ("canary", "shadow", "blueGreen", "recreate")
HEALTH: Final[tuple[Health, ...]] = ("good", "good", "worse", "crashing", "failing", "stuck")
ON_DRIFT: Final[dict[str, Any]] = {
    "traffic": ["holdRollout"],
    "artifact": ["holdRollout", "rollback"],
}
ROLLOUT: Final[dict[str, Any]] = {"progressDeadlineSeconds": 300, "drainSeconds": 60}
GENEROUS = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def changed(spec: ModelDeploymentSpec, **fields: Any) -> ModelDeploymentSpec:
    """The spec with some of its fields, as in a manifest, replaced."""
    given = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    given["rollout"] |= fields.pop("rollout", {})
    return a_spec(**(given | fields))


def publish(world: World, health: Health) -> None:
    """A newer version, which does as `health` says."""
    newest = max((version.created for version in world.versions), default=world.now)
    name = f"v{len(world.health) + 1}"
    world.health[name] = health
    created = max(world.now, newest + timedelta(seconds=1))
    world.versions.append(a_version(name, created=(created - START).total_seconds()))


def pin(world: World, number: int) -> None:
    if world.versions:
        name = world.versions[number % len(world.versions)].version
        world.spec = changed(world.spec, version=name)


def delete(world: World, number: int) -> None:
    if world.versions:
        del world.versions[number % len(world.versions)]


def command(world: World, number: int) -> None:
    if world.status is not None and world.status.candidate is not None:
        verb: Literal["promote", "abort"] = "promote" if number % 2 else "abort"
        world.command = Command(verb, world.status.candidate.version)


def blind(world: World, number: int) -> None:
    blindness: list[dict[str, Any]] = [
        {},
        {"versions_known": False, "versions": ()},
        {"can_split": False},
    ]
    world.overrides = blindness[number % 3]


def proxy(world: World, number: int) -> None:
    failure = {"failure": "ProxyDown", "message": "it is down"}
    troubles: list[dict[str, Any]] = [{}, {"in_use": None}, failure]
    world.route_overrides = troubles[number % 3]


def kill(world: World, number: int) -> None:
    if world.replicas:
        world.kill(sorted(world.replicas)[number % len(world.replicas)])


def break_artifact(world: World, number: int) -> None:
    """A version answers otherwise than it did, or rightly again."""
    if world.versions:
        name = world.versions[number % len(world.versions)].version
        if world.health[name] in {"good", "wrong"}:
            world.health[name] = "wrong" if world.health[name] == "good" else "good"


def drift(world: World, number: int) -> None:
    stable = world.status.stable if world.status is not None else None
    if stable is not None:
        drifted = ["promptTokens"] if number % 2 else []
        world.monitored = Monitored(TrafficStatus(version=stable.version, drifted=drifted))


def set_clock(world: World, number: int) -> None:
    world.now += timedelta(seconds=(number - 6) * 600)


def change(world: World, **fields: Any) -> None:
    world.spec = changed(world.spec, **fields)


def steps(number: int) -> list[dict[str, int]]:
    return [{"weight": 10 + number, "seconds": 5}, {"weight": 60 + number}]


# What can happen to a world; the number chooses of what there is.
EVENTS: Final[dict[str, Callable[[World, int], object]]] = {
    "publish": lambda world, number: publish(world, HEALTH[number % len(HEALTH)]),
    "publish good": lambda world, _: publish(world, "good"),
    "delete": delete,
    "pin": pin,
    "unpin": lambda world, _: change(world, version=None),
    "scale": lambda world, number: change(world, replicas=1 + number % 4),
    "settings": lambda world, number: change(world, engine={"maxRequests": 1 + number % 3}),
    "strategy": lambda world, number: change(world, rollout={"strategy": STRATEGIES[number % 4]}),
    "steps": lambda world, number: change(world, rollout={"steps": steps(number)}),
    "pause": lambda world, number: change(world, rollout={"paused": number % 2 == 0}),
    "suspend": lambda world, number: change(world, suspend=number % 2 == 0),
    "command": command,
    "blind": blind,
    "proxy": proxy,
    "artifact": break_artifact,
    "drift": drift,
    "clock": set_clock,
    "kill": kill,
    "unreachable": lambda world, number: world.unreachable.update(
        sorted(world.replicas)[: number % 3]
    ),
    "nothing": lambda _world, _number: None,
}
KILLS: Final = st.sampled_from([None, None, "status", "replicas"])
HAPPENINGS: Final = st.tuples(
    st.sampled_from(sorted(EVENTS)), st.integers(0, 12), st.integers(1, 40), KILLS
)


@GENEROUS
@given(events=st.lists(HAPPENINGS, min_size=1, max_size=25), strategy=st.sampled_from(STRATEGIES))
def test_the_promises_hold_whatever_happens(
    events: list[tuple[str, int, int, Any]], strategy: str
) -> None:
    rollout = ROLLOUT | {"strategy": strategy}
    world = World(spec=a_spec(rollout=rollout, monitoring={"onDrift": ON_DRIFT}))
    publish(world, "good")

    for event, number, looks, killed_after in events:
        EVENTS[event](world, number)
        for look in range(looks):
            world.step(killed_after=killed_after if look == 0 else None)

    # All troubles are over: it comes to an end, with something that serves if anything can.
    world.spec = changed(world.spec, suspend=False, rollout={"paused": False})
    world.overrides, world.route_overrides = {}, {}
    world.command, world.unreachable, world.monitored = None, set(), None
    world.health |= {name: "good" for name, health in world.health.items() if health == "wrong"}
    drift(world, 0)
    status = world.run(3000)

    assert world.decisions[-1].wake_at is None
    assert status.candidate is None
    assert not status.draining
    rejected = {entry.version for entry in status.rejected}
    if status.stable is not None:
        assert status.stable.ready_replicas == world.spec.replicas
        assert world.in_use is not None
        assert world.in_use.weights == {status.stable.revision: 100}
    else:
        assert all(version.version in rejected for version in world.versions) or world.spec.version


@settings(GENEROUS, max_examples=20)
@given(
    health=st.lists(st.sampled_from(HEALTH), min_size=1, max_size=4),
    kills=st.lists(KILLS, max_size=80),
    strategy=st.sampled_from(STRATEGIES),
)
def test_a_killed_executor_comes_to_the_same_end(
    health: list[Health], kills: list[Any], strategy: str
) -> None:
    """Killed after any of its writes, again and again."""
    ends = []
    for plan in ([], kills):
        world = World(spec=a_spec(replicas=2, rollout=ROLLOUT | {"strategy": strategy}))
        left = list(plan)
        for one in (HEALTH[0], *health):
            publish(world, one)
            for _ in range(2000):
                killed_after = left.pop() if left else None
                if world.step(killed_after=killed_after).wake_at is None and not left:
                    break
        status = world.run()
        assert status.stable is not None
        ends.append((status.stable.version, [entry.version for entry in status.rejected]))

    assert ends[0] == ends[1]


@GENEROUS
@given(health=st.sampled_from(HEALTH), strategy=st.sampled_from(STRATEGIES))
def test_a_good_candidate_takes_over_and_a_bad_one_is_rejected(
    health: Health, strategy: str
) -> None:
    world = World(spec=a_spec(replicas=2, rollout=ROLLOUT | {"strategy": strategy}))
    publish(world, "good")
    world.run()
    publish(world, health)

    status = world.run(1000)

    # Without a judge only what its replicas show can speak against a candidate.
    is_judged = strategy in {"canary", "shadow"}
    is_good = health == "good" or (health == "worse" and not is_judged)
    assert status.stable is not None
    assert status.stable.version == ("v2" if is_good else "v1")
    assert [entry.version for entry in status.rejected] == ([] if is_good else ["v2"])
    assert world.decisions[-1].wake_at is None
