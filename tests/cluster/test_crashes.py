"""The operator is killed after each of its writes: the end is the same, and nothing comes twice.

One process serves many jobs. Each job is cut off from it after another write, as if the operator
had died then; once all are, it is killed in truth, and the next one finds them all.
"""

import asyncio
import random
from collections.abc import Iterable
from typing import Any, Final

import httpx
import pytest

from births import watched_births
from crowd import Crowd, a_crowd, picture, wait_until
from faulty_network import Answer, Call, Lost, Send
from held_jobs import Holds, Ours, operator_behind, point_of
from kuberay import needs_kuberay


def undisturbed_job(crowd: Crowd, fault: Holds) -> tuple[str, list[str]]:
    """A job that is over, and every step of it that was written, each once."""
    namespace = crowd.add()
    crowd.play(until=crowd.are_over)
    points = dict.fromkeys(fault.written[namespace])
    points.pop("progress", None)  # how often it is told is a matter of time
    return namespace, list(points)


def add_one_for_each(crowd: Crowd, fault: Holds, points: Iterable[str]) -> list[str]:
    """As many jobs as points, each held after another write."""
    namespaces = []
    for point in points:
        namespace = crowd.room()
        fault.points[namespace] = point
        crowd.create(namespace)
        namespaces.append(namespace)
    return namespaces


def needs_kuberay_for(spec: dict[str, Any]) -> None:
    if spec:
        needs_kuberay()


def owner_of(child: dict[str, Any]) -> str:
    (owner,) = child["metadata"]["ownerReferences"]
    uid: str = owner["uid"]
    return uid


WORKERS: Final[dict[str, Any]] = {"resources": {"workers": 2}}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="jobs"),
        pytest.param(WORKERS, id="rayjob", marks=pytest.mark.long),
    ],
)
def test_killed_after_any_write_the_end_is_the_same_and_nothing_is_made_twice(
    server: httpx.Client, spec: dict[str, Any]
) -> None:
    needs_kuberay_for(spec)
    with a_crowd(server, **spec) as crowd, watched_births(server, crowd.home) as births:
        fault = Holds(crowd.home)
        with operator_behind(fault, crowd, server) as (first, _):
            undisturbed, points = undisturbed_job(crowd, fault)
            add_one_for_each(crowd, fault, points)
            crowd.play(until=lambda: not fault.points)
            first.kill()
        crowd.forget_leader()
        with operator_behind(Ours(crowd.home), crowd, server):
            crowd.play(until=crowd.are_over)
        births.alive(crowd.namespaces)
        pictures = {name: picture(job, births.all) for name, job in crowd.jobs().items()}

    assert any("rayjobs" in each for each in points) is bool(spec)
    assert births.twins() == {}
    assert pictures == dict.fromkeys(pictures, pictures[undisturbed])


def test_deleted_between_any_two_writes_a_job_leaves_nothing_and_can_be_made_again(
    server: httpx.Client,
) -> None:
    """The operator goes on as it had decided, and does not know yet that the job is gone."""
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        fault = Holds(crowd.home)

        def delete_what_is_held() -> bool:
            for namespace in set(fault.held):
                is_remade = namespace in remade
                crowd.delete(namespace, "Foreground" if is_remade else "Background")
                if is_remade:
                    crowd.create(namespace)
                fault.let_go(namespace)
            return not fault.points and crowd.are_over()

        with operator_behind(fault, crowd, server):
            undisturbed, points = undisturbed_job(crowd, fault)
            gone = add_one_for_each(crowd, fault, points)
            remade = add_one_for_each(crowd, fault, points[: len(points) // 2])
            crowd.play(until=delete_what_is_held)
        left = crowd.wait_for_nothing(gone, births)
        alive = births.alive(crowd.namespaces)
        pictures = {name: picture(job, alive) for name, job in crowd.jobs().items()}

    assert left == []
    assert pictures == dict.fromkeys([undisturbed, *remade], pictures[undisturbed])


def test_made_again_while_its_volume_is_still_going_a_job_waits_for_a_new_one(
    server: httpx.Client,
) -> None:
    """As long as a pod uses a claim, a finalizer holds it."""
    with a_crowd(server) as crowd:
        with operator_behind(Ours(crowd.home), crowd, server):
            job = crowd.add()
            wait_until(lambda: bool(crowd.children(job, "pods")))
            (claim,) = crowd.children(job, "persistentvolumeclaims")
            crowd.hold(claim, is_held=True)
            crowd.delete(job, "Background")
            crowd.create(job)
            wait_until(lambda: crowd.phases()[job] == "Preparing")
            started = crowd.children(job, "jobs")
            crowd.hold(claim, is_held=False)
            crowd.play(until=crowd.are_over)
        uid = crowd.jobs()[job]["metadata"]["uid"]
        (again,) = crowd.children(job, "persistentvolumeclaims")

    assert [each for each in started if owner_of(each) == uid] == []
    assert owner_of(again) == uid
    assert again["metadata"]["uid"] != claim["metadata"]["uid"]


class Troubles(Ours):
    """Each write of a job fails the first time, in the way of that job.

    `lost` is done, and the answer never comes; a status is the answer, and nothing is done.
    """

    def __init__(self, home: str) -> None:
        super().__init__(home)
        self.ways: dict[str, str] = {}
        self.tried: set[tuple[str, str]] = set()

    async def answer_of_job(self, call: Call, send: Send) -> Answer:
        way, this = self.ways.get(call.namespace, ""), (call.namespace, point_of(call))
        if not call.is_write or not way or this in self.tried:
            return await send()
        self.tried.add(this)
        if way != "lost":
            return Answer(int(way), b"{}")
        await send()
        raise Lost


def test_a_write_that_fails_or_whose_answer_is_lost_is_repeated_without_harm(
    server: httpx.Client,
) -> None:
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        fault = Troubles(crowd.home)
        undisturbed = crowd.room()
        fault.ways = {crowd.room(): each for each in ("lost", "409", "429", "500", "503")}
        with operator_behind(fault, crowd, server):
            for each in crowd.namespaces:
                crowd.create(each)
            crowd.play(until=crowd.are_over)
        births.alive(crowd.namespaces)
        pictures = {name: picture(job, births.all) for name, job in crowd.jobs().items()}

    assert births.twins() == {}
    assert pictures == dict.fromkeys(pictures, pictures[undisturbed])
    assert {each for each, _ in fault.tried} == set(fault.ways)


class RandomHolds(Ours):
    """Holds each job at a request drawn by lot, reads included, before it is done or after."""

    def __init__(self, home: str, lot: random.Random) -> None:
        super().__init__(home)
        self._lot = lot
        self._left: dict[str, float] = {}
        self.held: set[str] = set()

    async def answer_of_job(self, call: Call, send: Send) -> Answer:
        left = self._left.setdefault(call.namespace, self._lot.randint(1, 50) / 2) - 0.5
        await self._hold_if(call.namespace, is_time=left == 0)
        answer = await send()
        self._left[call.namespace] = left = left - 0.5
        await self._hold_if(call.namespace, is_time=left == 0)
        return answer

    async def _hold_if(self, namespace: str, *, is_time: bool) -> None:
        if is_time:
            self.held.add(namespace)
        if namespace in self.held:
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("seed", "spec"),
    [
        (1, {}),
        pytest.param(2, {}, marks=pytest.mark.long),
        pytest.param(3, {}, marks=pytest.mark.long),
        (4, WORKERS),
    ],
)
def test_killed_at_random_the_end_is_the_same_and_nothing_is_made_twice(
    server: httpx.Client, seed: int, spec: dict[str, Any]
) -> None:
    needs_kuberay_for(spec)
    lot = random.Random(seed)
    with a_crowd(server, **spec) as crowd, watched_births(server, crowd.home) as births:
        jobs = [crowd.add() for _ in range(6)]
        for _ in range(2):
            fault = RandomHolds(crowd.home, lot)
            enough = lot.randint(2, len(jobs))
            with operator_behind(fault, crowd, server) as (process, _):
                crowd.play(until=lambda: len(fault.held) >= enough or crowd.are_over())  # noqa: B023 - used at once
                process.kill()
            crowd.forget_leader()
        with operator_behind(Ours(crowd.home), crowd, server):
            jobs.append(crowd.add())
            crowd.play(until=crowd.are_over)
        births.alive(crowd.namespaces)
        pictures = {name: picture(job, births.all) for name, job in crowd.jobs().items()}

    assert births.twins() == {}
    assert pictures == dict.fromkeys(pictures, pictures[jobs[-1]])
