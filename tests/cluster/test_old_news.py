"""What the operator reads is old, or it hears nothing: two of the three patterns of Sieve.

Sun and others, OSDI 2022: time travel and unobserved states. The third, intermediate states, is in
test_crashes.py.
"""

import asyncio
import json
from typing import Any

import httpx

from births import watched_births
from crowd import Crowd, a_crowd, picture, wait_until
from faulty_network import Answer, Call, Send
from held_jobs import Ours, operator_behind, point_of
from tunesmith_operator.kube.batch_job import BATCH_JOB
from tunesmith_operator.kube.child_kind import is_over

CHILDREN = {"/apis/batch/v1/jobs", "/api/v1/pods", "/api/v1/configmaps"}
START = "POST jobs helpdesk--train-1"
JOBS = "/apis/tunesmith.dev/v1alpha1/finetunejobs"


class TimeMachine(Ours):
    """Remembers all lists for as long as told, and later answers with those.

    Of events of the kinds in `unheard`, the operator hears nothing.
    """

    def __init__(self, home: str) -> None:
        super().__init__(home)
        self.memory: dict[str, Answer] = {}
        self.is_remembering = True
        self.is_old = False
        self.num_old_reads = 0
        self.unheard: set[str] = set()

    async def answer(self, call: Call, send: Send) -> Answer:
        if call.namespace or call.path not in {*CHILDREN, JOBS}:
            return await super().answer(call, send)
        if self.is_old:
            return self.memory[call.path]
        answer = await super().answer(call, send)
        if self.is_remembering:
            self.memory[call.path] = answer
        return answer

    async def answer_of_job(self, call: Call, send: Send) -> Answer:
        if call.is_write or call.target[0] != "finetunejobs" or not self.is_old:
            return await send()
        self.num_old_reads += 1
        return self._as_listed(call.namespace)

    def passes(self, call: Call, event: dict[str, Any]) -> bool:
        return call.path not in self.unheard and super().passes(call, event)

    def _as_listed(self, namespace: str) -> Answer:
        jobs = json.loads(self.memory[JOBS].content)["items"]
        (job,) = (each for each in jobs if each["metadata"]["namespace"] == namespace)
        return Answer(200, json.dumps(job).encode())


def told(crowd: Crowd, namespace: str) -> str:
    """What the status says of readiness."""
    conditions = crowd.jobs()[namespace].get("status", {}).get("conditions", [])
    return next((each["message"] for each in conditions if each["type"] == "Ready"), "")


def test_time_travel_to_before_a_job_was_suspended_starts_nothing_again(
    server: httpx.Client,
) -> None:
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        fault = TimeMachine(crowd.home)
        with operator_behind(fault, crowd, server) as (_, network):
            job = crowd.add()
            wait_until(lambda: bool(crowd.children(job, "pods")))
            fault.memory.clear()
            network.forget_watches()
            wait_until(lambda: len(fault.memory) == len(CHILDREN) + 1)
            fault.is_remembering = False
            crowd.suspend(job, is_on=True)
            wait_until(lambda: told(crowd, job) == "prepare can go on")
            fault.is_old = True
            network.forget_watches()
            wait_until(lambda: fault.num_old_reads > 3)
            started_again = crowd.children(job, "jobs")
            fault.is_old = False
            crowd.suspend(job, is_on=False)
            crowd.play(until=crowd.are_over)
        births.alive(crowd.namespaces)
        stages = crowd.jobs()[job]["status"]["stages"]

    assert started_again == []
    assert births.twins() == {}
    assert [each["attempt"] for each in stages] == [2, 1, 1, 1, 1, 1]


def test_what_was_missed_while_the_watches_were_silent_is_made_up_for(
    server: httpx.Client,
) -> None:
    with a_crowd(server) as crowd, watched_births(server, crowd.home) as births:
        fault = TimeMachine(crowd.home)
        with operator_behind(fault, crowd, server) as (_, network):
            stopped, unseen = crowd.add(), crowd.add()
            wait_until(lambda: all(crowd.children(each, "pods") for each in (stopped, unseen)))
            fault.unheard = CHILDREN
            crowd.suspend(stopped, is_on=True)
            wait_until(lambda: told(crowd, stopped) == "prepare can go on")
            fault.unheard = CHILDREN | {JOBS}
            crowd.suspend(unseen, is_on=True)
            crowd.suspend(unseen, is_on=False)
            crowd.suspend(stopped, is_on=False)
            fault.unheard = set()
            network.forget_watches()
            undisturbed = crowd.add()
            crowd.play(until=crowd.are_over)
        births.alive(crowd.namespaces)
        pictures = {name: picture(job, births.all) for name, job in crowd.jobs().items()}
        stages = crowd.jobs()[stopped]["status"]["stages"]

    assert births.twins() == {}
    assert pictures[unseen] == pictures[undisturbed]
    assert [each["attempt"] for each in stages] == [2, 1, 1, 1, 1, 1]


class LateStart(Ours):
    """The first start of training is on its way for as long as the test wants."""

    def __init__(self, home: str) -> None:
        super().__init__(home)
        self.late: Call | None = None

    async def answer_of_job(self, call: Call, send: Send) -> Answer:
        if self.late is None and point_of(call) == START:
            self.late = call
            await asyncio.Event().wait()
        return await send()


def test_a_start_that_arrives_after_its_attempt_was_stopped_is_stopped_once_more(
    server: httpx.Client,
) -> None:
    """Its leader is dead by then, and the attempt after it runs."""
    with a_crowd(server) as crowd:
        fault = LateStart(crowd.home)
        with operator_behind(fault, crowd, server) as (first, _):
            job = crowd.add()
            crowd.play(until=lambda: fault.late is not None)
            first.kill()
        crowd.forget_leader()
        with operator_behind(Ours(crowd.home), crowd, server):
            wait_until(lambda: running(crowd, job) == ["train-1"])
            crowd.suspend(job, is_on=True)
            wait_until(lambda: told(crowd, job) == "train can go on")
            crowd.suspend(job, is_on=False)
            wait_until(lambda: running(crowd, job) == ["train-2"])
            assert fault.late is not None
            server.post(fault.late.path, json=fault.late.body).raise_for_status()
            assert running(crowd, job) == ["train-1", "train-2"]
            wait_until(lambda: running(crowd, job) == ["train-2"], timeout_s=20)
            crowd.play(until=crowd.are_over)
        stages = crowd.jobs()[job]["status"]["stages"]

    assert [each["attempt"] for each in stages] == [1, 2, 1, 1, 1, 1]


def running(crowd: Crowd, namespace: str) -> list[str]:
    """The attempts whose Jobs are there and have not ended."""
    jobs = (each for each in crowd.children(namespace, "jobs") if not is_over(BATCH_JOB, each))
    names = (each["metadata"]["name"].partition("--")[2] for each in jobs)
    return sorted(each.rpartition("-")[0] for each in names)
