"""Which version is wanted, what takes its place, and what is never tried again."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from deployment_world import START, World, a_spec, a_version
from tunesmith_engine.deployment.revisions import revision_of

Serving = Callable[..., World]


def stable_version(world: World) -> str | None:
    return world.status.stable.version if world.status and world.status.stable else None


def test_without_a_version_it_waits() -> None:
    world = World()
    world.step()

    assert world.status is not None
    assert world.status.phase == "Pending"
    assert world.condition("Reconciling")[0] == "True"
    assert "no version of the model helpdesk" in world.condition("Ready")[2]


def test_the_first_version_is_not_judged() -> None:
    world = World(versions=[a_version("v1")], judged_after_s=None)

    status = world.run()

    assert (status.phase, stable_version(world)) == ("Serving", "v1")
    assert status.endpoint == "http://localhost:8000/v1"
    assert all(decision.recording is None for decision in world.decisions)


def test_a_first_version_that_fails_is_refused_until_another_comes() -> None:
    world = World(versions=[a_version("v1")], health={"v1": "failing"})

    status = world.run()

    assert status.phase == "Failed"
    assert world.condition("Stalled")[:2] == ("True", "RolledBack")
    assert not world.desired.revisions

    world.versions.append(a_version("v2", created=10))
    world.run()
    assert stable_version(world) == "v2"


def test_of_two_newer_versions_only_the_newest_is_tried(serving: Serving) -> None:
    world = serving()
    world.versions += [a_version("v3", created=20), a_version("v2", created=10)]

    world.run()

    tried = {
        decision.status.candidate.version
        for decision in world.decisions
        if decision.status.candidate
    }
    assert tried == {"v1", "v3"}


def test_at_the_same_time_the_name_decides(serving: Serving) -> None:
    world = serving()
    world.versions += [a_version("v2b", created=10), a_version("v2a", created=10)]

    world.run()

    assert stable_version(world) == "v2b"


@pytest.mark.parametrize("state", ["Starting", "Analyzing", "Promoting"])
def test_a_still_newer_version_takes_the_candidates_place(serving: Serving, state: str) -> None:
    world = serving(replicas=2)
    world.versions.append(a_version("v2", created=10))
    world.run_until(state)
    world.versions.append(a_version("v3", created=20))

    world.step()
    assert world.status is not None
    assert world.status.candidate is not None
    assert world.status.candidate.version == "v3"
    assert [drain.reason for drain in world.status.draining] in ([], ["Superseded"])

    status = world.run()
    assert stable_version(world) == "v3"
    assert not status.rejected


@pytest.mark.parametrize("strategy", ["canary", "shadow", "blueGreen", "recreate"])
@pytest.mark.parametrize("state", ["Starting", "Promoting"])
def test_going_back_to_what_is_stable_rejects_nobody(
    serving: Serving, strategy: str, state: str
) -> None:
    world = serving(version="v1", rollout={"strategy": strategy})
    world.versions.append(a_version("v2", created=10))
    world.spec = a_spec(version="v2", rollout={"strategy": strategy})
    world.run_until(state)
    world.spec = a_spec(version="v1", rollout={"strategy": strategy})

    status = world.run()

    assert stable_version(world) == "v1"
    assert not status.rejected
    assert world.condition("Ready")[0] == "True"


def test_a_pinned_version_may_be_an_older_one(serving: Serving) -> None:
    world = serving()
    world.versions.insert(0, a_version("v0", created=-10))
    world.run()
    assert stable_version(world) == "v1"

    world.spec = a_spec(version="v0")
    world.run()
    assert stable_version(world) == "v0"


@pytest.mark.parametrize(
    ("problem", "reason"), [(None, "VersionNotFound"), ("no digest", "VersionUnusable")]
)
def test_a_pin_that_cannot_be_served_leaves_stable_alone(
    serving: Serving, problem: str | None, reason: str
) -> None:
    world = serving()
    if problem:
        world.versions.append(a_version("v9", created=10, problem=problem))
    world.spec = a_spec(version="v9")

    status = world.run()

    assert stable_version(world) == "v1"
    assert status.candidate is None
    assert world.condition("Stalled")[:2] == ("True", reason)
    assert world.condition("Available")[0] == "True"
    assert "v9" in world.condition("Ready")[2]


def test_a_version_that_cannot_be_served_is_not_followed(serving: Serving) -> None:
    world = serving()
    world.versions.append(a_version("v2", created=10, problem="no digest"))

    world.run()

    assert stable_version(world) == "v1"
    assert world.condition("Ready")[0] == "True"


def test_a_rejected_pin_stays_rejected_until_the_settings_change(serving: Serving) -> None:
    """A rollback never fights Git."""
    world = serving()
    world.health["v2"] = "failing"
    world.versions.append(a_version("v2", created=10))
    world.spec = a_spec(version="v2")
    world.run()
    for _ in range(20):
        world.step()
    assert world.condition("RolledBack")[:2] == ("True", "RolledBack")

    world.health["v2"] = "good"
    world.spec = a_spec(version="v2", engine={"maxRequests": 8})
    world.run()
    assert stable_version(world) == "v2"
    assert world.condition("RolledBack")[0] == "False"


def test_with_new_settings_a_bad_version_does_not_bring_an_older_one(serving: Serving) -> None:
    world = serving()
    world.versions.append(a_version("v2", created=10))
    world.run()
    world.health["v2"] = "failing"
    world.spec = a_spec(engine={"maxRequests": 8})

    world.run()

    assert stable_version(world) == "v2"
    assert {
        decision.status.candidate.version
        for decision in world.decisions
        if decision.status.candidate
    } == {"v1", "v2"}


def test_two_bad_versions_do_not_take_turns() -> None:
    """Only one rejection is to be remembered, and both are needed."""
    versions = [a_version("v1"), a_version("v2", created=10)]
    world = World(
        spec=a_spec(revisionHistoryLimit=1),
        versions=versions,
        health={"v1": "failing", "v2": "failing"},
    )

    status = world.run()

    assert sorted(entry.version for entry in status.rejected) == ["v1", "v2"]
    assert world.decisions[-1].wake_at is None


def test_rejections_of_versions_that_are_gone_are_forgotten(serving: Serving) -> None:
    world = serving(revisionHistoryLimit=2)
    for number in range(2, 7):
        world.health[f"v{number}"] = "failing"
        world.versions = [a_version("v1"), a_version(f"v{number}", created=number)]
        world.run()

    assert world.status is not None
    assert [entry.version for entry in world.status.rejected] == ["v5", "v6"]


@pytest.mark.parametrize("version", [None, "v1"])
def test_a_record_that_is_deleted_while_it_is_served_changes_nothing(
    serving: Serving, version: str | None
) -> None:
    world = serving(version=version)
    world.versions = [a_version("v0", created=-10)]

    world.run()

    assert stable_version(world) == "v1"
    assert world.condition("Ready")[0] == "True"
    assert world.desired.revisions[0].uri == "file:///models/v1"


def test_without_that_record_only_what_is_newer_is_followed(serving: Serving) -> None:
    world = serving()
    world.versions = [a_version("v2", created=1000)]

    world.run()

    assert stable_version(world) == "v2"


def test_while_the_versions_cannot_be_read_it_goes_on_as_stored(serving: Serving) -> None:
    world = serving()
    world.versions.append(a_version("v2", created=10))
    world.run_until("Analyzing")
    world.overrides = {"versions": (), "versions_known": False}

    world.run()

    assert stable_version(world) == "v2"


def test_a_revision_depends_on_what_shapes_its_pods_alone() -> None:
    version = a_version("v1")
    revision = revision_of(a_spec(), version)
    same = a_spec(
        replicas=3,
        port=9000,
        suspend=True,
        gateway={"name": "public"},
        rollout={"paused": True},
        engine={},
    )
    others = [
        a_spec(engine={"maxRequests": 8}),
        a_spec(resources={"gpusPerReplica": 1}),
        a_spec(storage={"claimName": "models"}),
        a_spec(apiKeys={"name": "keys"}),
    ]

    assert revision_of(same, version) == revision
    assert revision_of(a_spec(), a_version("v1", created=99)) == revision
    names = {revision, *(revision_of(spec, version) for spec in others)}
    names.add(revision_of(a_spec(), a_version("v1", digest="sha256:other")))
    assert len(names) == 6
    assert all(len(name) == 8 for name in names)


def test_a_version_published_with_a_clock_ahead_is_followed(serving: Serving) -> None:
    world = serving()
    ahead = (world.now - START + timedelta(days=1)).total_seconds()
    world.versions.append(a_version("v2", created=ahead))

    world.run()

    assert stable_version(world) == "v2"
