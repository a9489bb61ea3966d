"""Events are written behind the work: in their order, and none of them stops anything."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import pytest
from kubernetes.aio.client.exceptions import ApiException

from api_double import ApiDouble, Manifest
from tunesmith_operator.kube import events
from tunesmith_operator.kube.api_errors import FORBIDDEN
from tunesmith_operator.kube.events import EventRecorder

_AWAY: Final = ApiException(status=503, reason="down")


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PACE_S", 0.001)
    monkeypatch.setattr(events, "_AGAIN_S", 0.001)


class Server(ApiDouble):
    """A server that refuses Events with what stands in `answers`, one after the other."""

    def __init__(self, *answers: Exception | None) -> None:
        super().__init__()
        self.answers = list(answers)

    async def create(self, manifest: Manifest) -> bool:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        return await super().create(manifest)

    @property
    def told(self) -> list[str]:
        return [name for kind, _, name in self.objects if kind == "Event"]


def an_event(name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "ns"},
        "involvedObject": {"kind": "FineTuneJob", "namespace": "ns", "name": "helpdesk"},
        "reason": "Training",
    }


def recorded(
    server: Server, *names: str, is_busy: Callable[[], bool] = lambda: False, for_s: float = 0.2
) -> EventRecorder:
    """What is left of a recorder that ran for a while after these were recorded."""

    async def run() -> EventRecorder:
        recorder = EventRecorder(server)
        for name in names:
            recorder.record(an_event(name))
        running = asyncio.create_task(recorder.run(is_busy=is_busy))
        await asyncio.sleep(for_s)
        server.answers.clear()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return recorder

    return asyncio.run(run())


def test_events_are_written_in_the_order_in_which_they_came() -> None:
    server = Server()
    recorded(server, "a", "b", "c")

    assert server.told == ["a", "b", "c"]


def test_events_wait_for_as_long_as_an_object_waits_for_a_look() -> None:
    seen: list[int] = []
    server = Server()

    def is_busy() -> bool:
        seen.append(len(server.told))
        return len(seen) < 5

    recorded(server, "a", is_busy=is_busy)

    assert seen == [0] * 5
    assert server.told == ["a"]


def test_an_event_that_has_waited_for_long_waits_for_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "PATIENCE_S", 0.01)
    server, told = Server(), []

    def is_busy() -> bool:
        told.append(server.told)
        return True

    recorded(server, "a", "b", is_busy=is_busy)

    assert told[-1] == ["a"]  # asked for the last time before "b"


def test_an_operator_that_ends_writes_what_still_waits() -> None:
    server = Server()
    recorded(server, "a", "b", is_busy=lambda: True, for_s=0)

    assert server.told == ["a", "b"]


def test_an_event_that_is_refused_is_lost_and_the_next_is_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(ApiException(status=FORBIDDEN, reason="no"))
    recorded(server, "a", "b")

    assert server.told == ["b"]
    assert "the Event Training of FineTuneJob ns/helpdesk is lost" in caplog.text


@pytest.mark.parametrize("error", [_AWAY, TimeoutError(), ConnectionResetError()])
def test_a_server_that_is_away_is_asked_again(error: Exception) -> None:
    server = Server(error, error, error)
    recorded(server, "a", "b")

    assert sorted(server.told) == ["a", "b"]


def test_what_one_namespace_cannot_take_holds_up_no_other() -> None:
    class Half(Server):
        async def create(self, manifest: Manifest) -> bool:
            if manifest["metadata"]["name"] == "a" and self.answers:
                raise _AWAY
            return await super(Server, self).create(manifest)

    server = Half(None)
    recorded(server, "a", "b")

    assert server.told == ["b", "a"]


def test_an_outage_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "MAX_WAITING", 2)
    caplog.set_level(logging.WARNING)
    server = Server()
    recorded(server, "a", "b", "c")

    assert server.told == ["a", "b"]
    assert "2 wait already" in caplog.text


def test_an_operator_that_ends_does_not_wait_for_a_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "_LAST_S", 0.05)

    class Away(Server):
        async def create(self, _: Any) -> bool:
            raise _AWAY

    left = recorded(Away(), "a", for_s=0)

    assert [event["metadata"]["name"] for _, event in left._waiting] == ["a"]
