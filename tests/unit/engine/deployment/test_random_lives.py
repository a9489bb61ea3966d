"""Whatever happens, and in whatever order: what must hold does, and it ends as it should.

`World.check` looks at every step that traffic goes where it may, nothing is stopped too early, and
no rejected revision comes back.
"""

from datetime import timedelta
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployment_world import START, Health, World, a_spec, a_version
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import Command

STRATEGIES: Final = ("canary", "shadow", "blueGreen", "recreate")
HEALTH: Final[tuple[Health, ...]] = ("good", "good", "worse", "crashing", "failing", "stuck")
ROLLOUT: Final[dict[str, Any]] = {"progressDeadlineSeconds": 300, "drainSeconds": 60}
GENEROUS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # fmt: skip


def changed(spec: ModelDeploymentSpec, **fields: Any) -> ModelDeploymentSpec:
    """The spec with some of its fields, as in a manifest, replaced."""
    given = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    given["rollout"] |= fields.pop("rollout", {})
    return a_spec(**(given | fields))


def happen(world: World, event: str, number: int) -> None:
    """Something happens to the world; `number` chooses of what there is."""
    candidate = world.status.candidate if world.status else None
    rollout: dict[str, Any] = {}
    match event:
        case "publish":
            publish(world, HEALTH[number % len(HEALTH)])
        case "delete" if world.versions:
            del world.versions[number % len(world.versions)]
        case "pin" if world.versions:
            name = world.versions[number % len(world.versions)].version
            world.spec = changed(world.spec, version=name)
        case "unpin":
            world.spec = world.spec.model_copy(update={"version": None})
        case "scale":
            world.spec = changed(world.spec, replicas=1 + number % 4)
        case "settings":
            world.spec = changed(world.spec, engine={"maxRequests": 1 + number % 3})
        case "strategy":
            rollout = {"strategy": STRATEGIES[number % len(STRATEGIES)]}
        case "steps":
            rollout = {"steps": [{"weight": 10 + number, "seconds": 5}, {"weight": 60 + number}]}
        case "pause":
            rollout = {"paused": number % 2 == 0}
        case "suspend":
            world.spec = changed(world.spec, suspend=number % 2 == 0)
        case "command" if candidate is not None:
            verb = "promote" if number % 2 else "abort"
            world.command = Command(verb, candidate.version)
        case "blind":
            world.overrides = [{}, {"versions_known": False, "versions": ()}, {"can_split": False}][
                number % 3
            ]
        case "proxy":
            failure = {"failure": "ProxyDown", "message": "it is down"}
            world.route_overrides = [{}, {"in_use": None}, failure][number % 3]
        case "clock":
            world.now += timedelta(seconds=(number - 6) * 600)
        case "kill" if world.replicas:
            world.kill(sorted(world.replicas)[number % len(world.replicas)])
        case "unreachable":
            world.unreachable = set(sorted(world.replicas)[: number % 3])
    if rollout:
        world.spec = changed(world.spec, rollout=rollout)


def publish(world: World, health: Health) -> None:
    """A newer version, which does as `health` says."""
    newest = max((version.created for version in world.versions), default=world.now)
    name = f"v{len(world.health) + 1}"
    world.health[name] = health
    created = max(world.now, newest + timedelta(seconds=1))
    world.versions.append(a_version(name, created=(created - START).total_seconds()))


EVENTS: Final = st.tuples(
    st.sampled_from(
        [
            "publish", "publish", "publish", "delete", "pin", "unpin", "scale", "settings",
            "strategy", "steps", "pause", "suspend", "command", "blind", "proxy", "clock", "kill",
            "unreachable", "nothing",
        ]
    ),
    st.integers(0, 12),
    st.integers(1, 40),
    st.booleans(),
)  # fmt: skip


@GENEROUS
@given(events=st.lists(EVENTS, min_size=1, max_size=25), strategy=st.sampled_from(STRATEGIES))
def test_the_promises_hold_whatever_happens(
    events: list[tuple[str, int, int, bool]], strategy: str
) -> None:
    world = World(spec=a_spec(rollout=ROLLOUT | {"strategy": strategy}))
    publish(world, "good")

    for event, number, steps, is_killed in events:
        happen(world, event, number)
        for step in range(steps):
            world.step(is_killed=is_killed and step == 0)

    # All troubles are over: it comes to an end, with something that serves if anything can.
    world.spec = changed(world.spec, suspend=False, rollout={"paused": False})
    world.overrides, world.route_overrides = {}, {}
    world.command, world.unreachable = None, set()
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


@GENEROUS
@given(
    health=st.lists(st.sampled_from(HEALTH), min_size=1, max_size=4),
    kills=st.lists(st.booleans(), max_size=80),
    strategy=st.sampled_from(STRATEGIES),
)
def test_a_killed_executor_comes_to_the_same_end(
    health: list[Health], kills: list[bool], strategy: str
) -> None:
    """Killed after it has stored the status, and before it has made anything so."""
    ends = []
    for plan in ([], kills):
        world = World(spec=a_spec(replicas=2, rollout=ROLLOUT | {"strategy": strategy}))
        left = list(plan)
        for one in (HEALTH[0], *health):
            publish(world, one)
            for _ in range(2000):
                is_killed = left.pop() if left else False
                if world.step(is_killed=is_killed).wake_at is None and not left:
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
