"""A stable version that no longer answers as it was judged: told, held, and taken back if asked."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from deployment_world import World, a_spec, a_version
from tunesmith_engine.deployment.artifact_rollback import CONFIRM_SECONDS

Serving = Callable[..., World]
ROLLBACK: Final[dict[str, Any]] = {"monitoring": {"onDrift": {"artifact": ["alert", "rollback"]}}}
HOLD: Final[dict[str, Any]] = {"monitoring": {"onDrift": {"artifact": ["holdRollout"]}}}


def second(world: World) -> World:
    """The world in which v2 has taken over from v1."""
    world.versions.append(a_version("v2", created=10))
    world.run()
    assert world.status is not None
    assert world.status.stable is not None
    assert world.status.stable.version == "v2"
    return world


def stable(world: World) -> str:
    assert world.status is not None
    assert world.status.stable is not None
    return world.status.stable.version


def test_a_mismatch_is_told_with_the_replica_and_since_when(serving: Serving) -> None:
    world = serving()
    world.health["v1"] = "wrong"
    since = world.now
    for _ in range(20):
        world.step()

    status, reason, message = world.condition("ArtifactMismatch")
    assert (status, reason) == ("True", "FingerprintMismatch")
    assert next(iter(world.replicas)) in message
    assert world.status is not None
    assert world.status.monitoring is not None
    assert world.status.monitoring.artifact is not None
    assert world.status.monitoring.artifact.since == since
    assert not world.status.rejected


def test_a_mismatch_that_ends_is_told_as_well(serving: Serving) -> None:
    world = serving()
    world.health["v1"] = "wrong"
    world.step()
    world.health["v1"] = "good"
    world.run()

    assert world.condition("ArtifactMismatch")[0] == "False"


def test_the_version_before_takes_over_and_nothing_comes_back(serving: Serving) -> None:
    world = second(serving(**ROLLBACK))
    began = world.seconds
    world.health["v2"] = "wrong"
    world.run()

    assert stable(world) == "v1"
    assert world.seconds - began >= CONFIRM_SECONDS
    assert world.status is not None
    assert [(e.version, e.reason) for e in world.status.rejected] == [("v2", "FingerprintMismatch")]
    assert world.condition("RolledBack")[0] == "True"
    assert world.condition("ArtifactMismatch")[0] == "False"

    world.health["v2"] = "good"
    world.run()
    assert stable(world) == "v1"


def test_a_version_that_is_published_afterwards_is_tried(serving: Serving) -> None:
    world = second(serving(**ROLLBACK))
    world.health["v2"] = "wrong"
    world.run()
    world.versions.append(a_version("v3", created=20_000))
    world.run()

    assert stable(world) == "v3"


@pytest.mark.parametrize("spec", [{}, {**ROLLBACK, "version": "v2"}])
def test_what_nobody_asked_for_or_git_has_pinned_is_not_taken_back(
    serving: Serving, spec: dict[str, Any]
) -> None:
    world = second(serving(**ROLLBACK))
    world.spec = a_spec(**spec)
    world.health["v2"] = "wrong"
    for _ in range(100):
        world.step()

    assert stable(world) == "v2"
    assert world.condition("ArtifactMismatch")[0] == "True"
    assert world.status is not None
    assert not world.status.rejected


def test_the_first_version_has_nothing_to_go_back_to(serving: Serving) -> None:
    world = serving(**ROLLBACK)
    world.health["v1"] = "wrong"
    for _ in range(100):
        world.step()

    assert stable(world) == "v1"
    assert world.status is not None
    assert not world.status.rejected


def test_one_wrong_replica_of_two_is_a_node_and_no_version(serving: Serving) -> None:
    world = second(serving(replicas=2, **ROLLBACK))
    one = next(iter(world.replicas))
    world.overrides = {"replicas": ()}
    for _ in range(40):
        seen = [world.replica_state(name) for name in world.replicas]
        wrong = {"is_ready": False, "failure": "FingerprintMismatch"}
        world.overrides = {
            "replicas": tuple(
                type(state)(**_fields(state) | (wrong if state.name == one else {}))
                for state in seen
            )
        }
        world.step()

    assert stable(world) == "v2"
    assert world.condition("ArtifactMismatch")[0] == "True"


def _fields(state: Any) -> dict[str, Any]:
    return {name: getattr(state, name) for name in state.__slots__}


@pytest.mark.parametrize("number", [2, 3, 4])
def test_an_engine_that_answers_wrongly_wears_out_one_more_version_at_most(
    serving: Serving, number: int
) -> None:
    """A new image of the server makes every version wrong: going back mends nothing."""
    world = serving(**ROLLBACK)
    for index in range(2, number + 1):
        world.versions.append(a_version(f"v{index}", created=10 * index))
        world.run()
    for version in world.versions:
        world.health[version.version] = "wrong"
    for _ in range(400):
        world.step()

    assert world.status is not None
    assert len(world.status.rejected) <= 2
    assert stable(world) == f"v{number}"
    assert not world.status.candidate


def test_where_both_fit_into_no_machine_the_wrong_one_goes_first(serving: Serving) -> None:
    world = second(serving(**ROLLBACK, rollout={"strategy": "recreate"}))
    world.health["v2"] = "wrong"
    world.run()

    assert stable(world) == "v1"


def test_a_candidate_makes_way_for_the_version_before_and_is_tried_then(serving: Serving) -> None:
    world = second(serving(**ROLLBACK))
    world.versions.append(a_version("v3", created=20_000))
    world.run_until("Analyzing")
    world.judged_after_s = 1e9
    world.health["v2"] = "wrong"
    for _ in range(60):
        world.step()
        if stable(world) == "v1":
            break
    assert stable(world) == "v1"
    world.judged_after_s = 90.0
    world.run()

    assert stable(world) == "v3"


def test_a_rollout_is_held_while_stable_answers_wrongly(serving: Serving) -> None:
    world = serving(replicas=2, **HOLD)
    world.versions.append(a_version("v2", created=10))
    world.run_until("Analyzing")
    world.health["v1"] = "wrong"
    for _ in range(100):
        world.step()

    assert world.status is not None
    assert world.status.phase == "Paused"
    assert world.condition("Progressing")[1] == "FingerprintMismatch"
    world.health["v1"] = "good"
    world.run()
    assert stable(world) == "v2"


def test_a_version_that_was_rejected_while_it_served_is_not_tried_again_for_a_pin(
    serving: Serving,
) -> None:
    """As with one that the judge rejected; the condition says so."""
    world = second(serving(**ROLLBACK))
    world.health["v2"] = "wrong"
    world.run()
    world.health["v2"] = "good"
    world.spec = a_spec(**ROLLBACK, version="v2")
    world.run()

    assert stable(world) == "v1"
    assert world.condition("RolledBack")[0] == "True"
