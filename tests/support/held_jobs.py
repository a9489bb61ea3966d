"""A fault that stops the operator's work on a job at a chosen request.

Each job has a namespace of its own, so one operator serves many jobs that are stopped at as many
places. A job that is held for good looks as if its operator had died; a killed operator is then
dead for all of them at once.
"""

# ruff: noqa: ARG002 - a fault is told what another may need
import asyncio
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from crowd import Crowd
from faulty_network import Answer, Call, Fault, Network, Send, a_network
from operator_process import MAIN, an_operator
from set_clock import PROGRAM, SetClock


def point_of(call: Call) -> str:
    """Which request of a job's life this is, in words that two jobs share."""
    resource, *names = call.target
    if names[1:] == ["status"]:
        status = call.body["status"]
        states = ", ".join(f"{each['name']} {each['state']}" for each in status.get("stages", []))
        phase = status.get("phase", "")
        return f"status {phase}: {states}" if phase or states else "progress"
    name = names[0] if names else call.body.get("metadata", {}).get("name", "")
    return f"{call.method} {resource} {re.sub(r'-[0-9a-f]{5,}$', '', name)}"


class Ours(Fault):
    """Hides the namespaces of other tests, which run at the same time or have left something.

    An operator of all namespaces would work on their jobs, too.
    """

    def __init__(self, home: str) -> None:
        self.home = home

    async def answer(self, call: Call, send: Send) -> Answer:
        if not call.namespace:
            return self._ours(await send())
        if call.namespace == self.home:
            return await send()
        if not call.namespace.startswith(self.home):
            return Answer(404, b"{}")
        return await self.answer_of_job(call, send)

    async def answer_of_job(self, call: Call, send: Send) -> Answer:
        """Answer a request about a job of this test."""
        return await send()

    def passes(self, call: Call, event: dict[str, Any]) -> bool:
        # A server that is just coming up answers a watch with a Status.
        return self._is_ours(event.get("object", {}))

    def _ours(self, answer: Answer) -> Answer:
        """A list of all namespaces without those of others; any other answer as it is."""
        content = json.loads(answer.content) if answer.status == HTTPStatus.OK else {}
        if "items" not in content:
            return answer
        content["items"] = [child for child in content["items"] if self._is_ours(child)]
        return replace(answer, content=json.dumps(content).encode())

    def _is_ours(self, child: dict[str, Any]) -> bool:
        """What lies in no namespace is everybody's."""
        namespace = child.get("metadata", {}).get("namespace", "")
        return not namespace or namespace.startswith(self.home)


class Holds(Ours):
    """Holds the answer to one write of each job, and whatever is asked about that job then."""

    def __init__(self, home: str) -> None:
        super().__init__(home)
        self.points: dict[str, str] = {}
        self.written: dict[str, list[str]] = {}
        self.held: set[str] = set()

    async def answer_of_job(self, call: Call, send: Send) -> Answer:
        if call.is_write and call.target[0] == "events":
            # They are written behind the work, one after the other: one that is held would hold
            # those of all jobs. A crash loses them, and nothing follows from one.
            return Answer(403, b"{}") if call.namespace in self.held else await send()
        await self._wait(call.namespace)
        answer = await send()
        if call.is_write:
            self._written(call.namespace, point_of(call))
        await self._wait(call.namespace)
        return answer

    def let_go(self, namespace: str) -> None:
        """Give the answer."""
        self.held.remove(namespace)

    def _written(self, namespace: str, point: str) -> None:
        self.written.setdefault(namespace, []).append(point)
        if self.points.get(namespace) == point:
            del self.points[namespace]
            self.held.add(namespace)

    async def _wait(self, namespace: str) -> None:
        while namespace in self.held:  # noqa: ASYNC110 - it is let go from another thread
            await asyncio.sleep(0.02)


@contextmanager
def operator_behind(
    fault: Fault, crowd: Crowd, http: httpx.Client
) -> Iterator[tuple[subprocess.Popen[bytes], Network]]:
    """An operator with a worker for each job, and its way to the API server."""
    with (
        a_network(str(http.base_url), fault) as (network, kubeconfig),
        operator_for(crowd, kubeconfig) as process,
    ):
        yield process, network


@contextmanager
def operator_for(
    crowd: Crowd, kubeconfig: Path, clock: SetClock | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """An operator with a worker for each job, by this clock if there is one."""
    place = {"KUBECONFIG": str(kubeconfig)} | (clock.environment if clock else {})
    program = PROGRAM if clock else MAIN
    with an_operator(crowd.home, "--workers=100", everywhere=True, program=program, **place) as (
        process,
        _,
    ):
        yield process


@contextmanager
def kept_running(
    start: Callable[[], AbstractContextManager[subprocess.Popen[bytes]]],
) -> Iterator[None]:
    """A process that is started again whenever it ends, as a Deployment does."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.is_set():
            with start() as process:
                while process.poll() is None and not stop.wait(0.1):
                    pass

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
