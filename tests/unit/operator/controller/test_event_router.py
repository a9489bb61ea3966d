"""Which news puts a job into the queue, and when."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tunesmith_operator.controller.child_cache import Children
from tunesmith_operator.controller.event_router import News
from tunesmith_operator.controller.metrics import Measures
from tunesmith_operator.controller.object_cache import Jobs
from tunesmith_operator.controller.work_queue import Key, WorkQueue

KEY = ("ns", "job")


def a_job(*, generation: int = 1, uid: str = "u", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "generation": generation}, **fields}


def waiting_after(tell: Callable[[News], None]) -> int:
    """How many keys are ready at once after this news."""

    async def told() -> int:
        queue = WorkQueue()
        news = News(queue, Measures(), jobs=Jobs(), children=Children())
        news.of_job(KEY, a_job(status={}), type_="ADDED")
        assert await queue.take() == KEY
        queue.done(KEY)
        tell(news)
        return len(queue)

    return asyncio.run(told())


@pytest.mark.parametrize(
    ("found", "type_", "count"),
    [
        (a_job(status={"phase": "Training"}), "MODIFIED", 0),
        (a_job(status={}, generation=2), "MODIFIED", 1),
        (a_job(status={}, uid="another"), "MODIFIED", 1),
        (a_job(status={}), None, 1),
        (a_job(status={}), "DELETED", 0),
    ],
)
def test_the_operators_own_writes_are_no_news(
    found: dict[str, Any], type_: str | None, count: int
) -> None:
    assert waiting_after(lambda news: news.of_job(KEY, found, type_=type_)) == count


@pytest.mark.parametrize(
    ("found", "type_", "count"),
    [
        ({"status": {"active": 1}}, "MODIFIED", 0),
        ({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, "MODIFIED", 1),
        ({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}, "MODIFIED", 1),
        ({}, "DELETED", 1),
    ],
)
def test_a_child_that_is_over_is_looked_at_at_once_and_others_a_little_later(
    found: dict[str, Any], type_: str, count: int
) -> None:
    child = {"metadata": {"name": "child"}} | found

    assert waiting_after(lambda news: news.of_child(KEY, "Job", child, type_=type_)) == count


def test_children_that_run_are_remembered_until_they_end() -> None:
    def child(kind: str, name: str, **status: Any) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": name}, "status": status}

    ended = {"conditions": [{"type": "Complete", "status": "True"}]}

    async def told() -> list[frozenset[tuple[str, str]]]:
        news, seen = News(WorkQueue(), Measures(), jobs=Jobs(), children=Children()), []
        for found, type_ in (
            (child("Job", "a"), "ADDED"),
            (child("Pod", "a-1"), "ADDED"),
            (child("RayJob", "b"), "ADDED"),
            (child("Job", "a", **ended), "MODIFIED"),
            (child("RayJob", "b", jobDeploymentStatus="Failed"), "MODIFIED"),
        ):
            news.of_child(KEY, found["kind"], found, type_=type_)
            seen.append(news.running(KEY))
        return seen

    a, b = ("Job", "a"), ("RayJob", "b")
    assert asyncio.run(told()) == [{a}, {a}, {a, b}, {b}, frozenset()]


def test_new_jobs_come_before_those_that_are_only_listed_again() -> None:
    async def told() -> list[Key]:
        queue = WorkQueue()
        news = News(queue, Measures(), jobs=Jobs(), children=Children())
        news.of_job(("ns", "old"), a_job(status={}), type_=None)
        news.of_job(("ns", "new"), a_job(), type_=None)
        return [await queue.take() for _ in range(2)]

    assert asyncio.run(told()) == [("ns", "new"), ("ns", "old")]


@pytest.mark.parametrize(("num_waiting", "after_s"), [(0, 1), (32, 2), (3200, 15)])
def test_the_more_jobs_wait_the_longer_news_is_gathered(
    monkeypatch: pytest.MonkeyPatch, num_waiting: int, after_s: float
) -> None:
    delays: list[float] = []
    monkeypatch.setattr(WorkQueue, "__len__", lambda _: num_waiting)
    monkeypatch.setattr(WorkQueue, "add", lambda *_, after_s, **__: delays.append(after_s))

    news = News(WorkQueue(), Measures(), jobs=Jobs(), children=Children())
    news.of_child(KEY, "Job", {"metadata": {"name": "child"}}, type_="ADDED")

    assert delays == [after_s]


@pytest.mark.parametrize(
    ("type_", "is_born"), [("ADDED", True), ("MODIFIED", False), (None, False)]
)
def test_only_a_job_whose_creation_was_watched_is_known_to_have_started_nothing(
    type_: str | None, *, is_born: bool
) -> None:
    noted: list[bool] = []

    class Noted(Jobs):
        def note(self, key: Key, found: dict[str, Any], *, is_born: bool) -> None:  # noqa: ARG002
            noted.append(is_born)

    async def told() -> None:
        news = News(WorkQueue(), Measures(), jobs=Noted(), children=Children())
        news.of_job(KEY, a_job(), type_=type_)

    asyncio.run(told())
    assert noted == [is_born]
