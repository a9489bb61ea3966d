"""Which events put which key into the queue, and when."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tunesmith_operator.controller.child_cache import ChildCache, ChildRef, ChildWatch
from tunesmith_operator.controller.controller import Controller
from tunesmith_operator.controller.event_router import EventRouter
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_operator.controller.object_cache import ObjectCache
from tunesmith_operator.controller.work_queue import Key, WorkQueue
from tunesmith_operator.finetunejob.controller import WATCHES
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB
from tunesmith_operator.finetunejob.parsing import has_ended
from tunesmith_operator.kube.resources import CONFIG_MAP, Resource

KEY = Key("FineTuneJob", "ns", "job")
MODEL_VERSION = Resource("ModelVersion", "tunesmith.dev", "v1alpha1", "modelversions")


async def nothing(_: Key) -> None:
    """There is nothing to do for an object."""


def job_controller(objects: ObjectCache | None = None) -> Controller:
    return Controller(
        FINE_TUNE_JOB,
        nothing,
        objects=objects or ObjectCache(has_ended=has_ended),
        children=ChildCache(WATCHES),
    )


def version_controller() -> Controller:
    """A second kind, whose children are ConfigMaps; a made-up one, but for its name."""
    watch = ChildWatch(CONFIG_MAP, "tunesmith.dev/version")
    return Controller(MODEL_VERSION, nothing, children=ChildCache([watch]))


def a_router(*controllers: Controller, queue: WorkQueue | None = None) -> EventRouter:
    # An empty queue has no length, and is none the less the one that is meant.
    queue = WorkQueue() if queue is None else queue
    return EventRouter(queue, Metrics(), controllers or (job_controller(),))


def a_job(*, generation: int = 1, uid: str = "u", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "generation": generation}, **fields}


def a_child(name: str = "child", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **fields}


def waiting_after(tell: Callable[[EventRouter], None]) -> int:
    """How many keys are ready at once after this event."""

    async def told() -> int:
        queue = WorkQueue()
        router = a_router(queue=queue)
        router.on_object(KEY, a_job(status={}), type_="ADDED")
        assert await queue.take() == KEY
        queue.done(KEY)
        tell(router)
        return len(queue)

    return asyncio.run(told())


@pytest.mark.parametrize(
    ("manifest", "type_", "count"),
    [
        (a_job(status={"phase": "Training"}), "MODIFIED", 0),
        (a_job(status={}, generation=2), "MODIFIED", 1),
        (a_job(status={}, uid="another"), "MODIFIED", 1),
        (a_job(), "MODIFIED", 1),
        (a_job(status={}), None, 1),
        (a_job(status={}), "DELETED", 0),
    ],
)
def test_the_operators_own_writes_are_no_news(
    manifest: dict[str, Any], type_: str | None, count: int
) -> None:
    assert waiting_after(lambda router: router.on_object(KEY, manifest, type_=type_)) == count


@pytest.mark.parametrize(
    ("fields", "type_", "count"),
    [
        ({"status": {"active": 1}}, "MODIFIED", 0),
        ({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, "MODIFIED", 1),
        ({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}, "MODIFIED", 1),
        ({}, "DELETED", 1),
    ],
)
def test_a_child_that_is_over_is_looked_at_at_once_and_others_a_little_later(
    fields: dict[str, Any], type_: str, count: int
) -> None:
    child = a_child(**fields)

    assert waiting_after(lambda router: router.on_child(KEY, "Job", child, type_=type_)) == count


def test_children_that_run_are_remembered_until_they_end() -> None:
    ended = {"conditions": [{"type": "Complete", "status": "True"}]}
    events: list[tuple[str, dict[str, Any], str]] = [
        ("Job", a_child("a"), "ADDED"),
        ("Pod", a_child("a-1"), "ADDED"),
        ("RayJob", a_child("b"), "ADDED"),
        ("Job", a_child("a", status=ended), "MODIFIED"),
        ("RayJob", a_child("b", status={"jobDeploymentStatus": "Failed"}), "MODIFIED"),
    ]

    async def told() -> list[frozenset[ChildRef]]:
        controller, active = job_controller(), []
        router = a_router(controller)
        for kind, child, type_ in events:
            router.on_child(KEY, kind, child, type_=type_)
            active.append(controller.children.active(KEY))
        return active

    a, b = ChildRef("Job", "a"), ChildRef("RayJob", "b")
    assert asyncio.run(told()) == [{a}, {a}, {a, b}, {b}, frozenset()]


def test_new_jobs_come_before_those_that_are_only_listed_again() -> None:
    old, new = (KEY._replace(name=name) for name in ("old", "new"))

    async def told() -> list[Key]:
        queue = WorkQueue()
        router = a_router(queue=queue)
        router.on_object(old, a_job(status={}), type_=None)
        router.on_object(new, a_job(), type_=None)
        return [await queue.take() for _ in range(2)]

    assert asyncio.run(told()) == [new, old]


@pytest.mark.parametrize(("num_waiting", "after_s"), [(0, 1), (32, 2), (3200, 15)])
def test_the_more_keys_wait_the_longer_news_is_gathered(
    monkeypatch: pytest.MonkeyPatch, num_waiting: int, after_s: float
) -> None:
    delays: list[float] = []
    monkeypatch.setattr(WorkQueue, "__len__", lambda _: num_waiting)
    monkeypatch.setattr(WorkQueue, "add", lambda *_, after_s, **__: delays.append(after_s))

    EventRouter(WorkQueue(), Metrics(), [job_controller()]).on_child(
        KEY, "Job", a_child(), type_="ADDED"
    )

    assert delays == [after_s]


@pytest.mark.parametrize(
    ("type_", "is_created"), [("ADDED", True), ("MODIFIED", False), (None, False)]
)
def test_only_an_object_whose_creation_was_watched_is_known_to_have_started_nothing(
    type_: str | None, *, is_created: bool
) -> None:
    noted: list[bool] = []

    class Noted(ObjectCache):
        def note(self, key: Key, manifest: dict[str, Any], *, is_created: bool) -> None:  # noqa: ARG002
            noted.append(is_created)

    async def told() -> None:
        a_router(job_controller(Noted())).on_object(KEY, a_job(), type_=type_)

    asyncio.run(told())
    assert noted == [is_created]


def test_a_job_that_is_over_keeps_no_copies_of_its_children() -> None:
    running = a_child("one")

    async def told() -> tuple[bool, bool]:
        controller = job_controller()
        router = a_router(controller)
        router.on_object(KEY, a_job(status={"phase": "Succeeded"}), type_="MODIFIED")
        router.on_child(KEY, "Job", running, type_="MODIFIED")
        return controller.objects.is_over(KEY), bool(controller.children._children)

    assert asyncio.run(told()) == (True, False)


def test_what_is_told_of_an_object_that_is_gone_is_forgotten() -> None:
    async def told() -> frozenset[ChildRef]:
        controller = job_controller()
        router = a_router(controller)
        router.on_object(KEY, a_job(), type_="ADDED")
        router.on_child(KEY, "Job", a_child(), type_="ADDED")
        router.on_object(KEY, a_job(), type_="DELETED")
        return controller.children.active(KEY)

    assert asyncio.run(told()) == frozenset()


def test_two_controllers_share_one_queue_and_an_object_of_each_kind_has_its_own_key() -> None:
    version = KEY._replace(kind="ModelVersion")

    async def told() -> list[Key]:
        queue = WorkQueue()
        router = a_router(job_controller(), version_controller(), queue=queue)
        router.on_object(KEY, a_job(), type_="ADDED")
        router.on_object(version, a_job(), type_="ADDED")
        router.on_object(version, a_job(status={}), type_="MODIFIED")
        return [await queue.take() for _ in range(len(queue))]

    assert asyncio.run(told()) == [KEY, version]


def test_an_event_of_a_child_is_noted_by_the_controller_that_made_it_and_no_other() -> None:
    async def told() -> tuple[Key, list[int]]:
        queue = WorkQueue()
        controllers = (job_controller(), version_controller())
        router = a_router(*controllers, queue=queue)
        version = KEY._replace(kind="ModelVersion")
        router.on_child(version, "ConfigMap", a_child(), type_="ADDED")
        router.on_child(version, "ConfigMap", a_child(), type_="DELETED")
        router.on_child(version, "ConfigMap", a_child(), type_="ADDED")
        return await queue.take(), [len(each.children._children) for each in controllers]

    assert asyncio.run(told()) == (KEY._replace(kind="ModelVersion"), [0, 1])
