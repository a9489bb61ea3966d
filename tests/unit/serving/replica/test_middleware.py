"""The middleware around a stand-in for the engine: tags, measures, answers, and never disturbs."""

import gc
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from played_replica import CHAT, PLANTED, Client
from tunesmith_serving.replica.in_process import (
    Application,
    Message,
    Receive,
    Scope,
    Send,
)
from tunesmith_serving.replica.measurement import Measurement
from tunesmith_serving.replica.middleware import Replica

pytestmark = pytest.mark.timeout(30)


def test_every_answer_tells_its_version(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        seen: list[Sequence[tuple[bytes, bytes]]] = []

        async def keeping(scope: Scope, receive: Receive, send: Send) -> None:
            async def kept(message: Message) -> None:
                if message["type"] == "http.response.start":
                    seen.append(message["headers"])
                await send(message)

            await client.app(scope, receive, kept)

        for path, body in ((CHAT, {"max_tokens": 1}), (CHAT, {"model": "other"}), ("/v1/no", {})):
            await Client(keeping, client.engine).post(path, body)
        await Client(keeping, client.engine).get("/v1/models")

        assert len(seen) == 4
        assert all((b"x-tunesmith-version", b"helpdesk-v7") in headers for headers in seen)

    play(scenario)


def test_a_draining_replica_is_not_ready_and_closes_connections(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        await client.becomes("Ready")
        status = (await client.post("/tunesmith/drain")).status
        assert status == 200
        assert (await client.get("/tunesmith/ready"))[1]["reason"] == "Draining"
        assert (await client.post(CHAT, {"max_tokens": 1})).status == 200
        state = (await client.get("/tunesmith/state"))[1]
        assert (state["draining"], state["ready"], state["accepted"]) == (True, False, 1)

    play(scenario)


@pytest.mark.parametrize("client_address", ["10.0.0.7", "192.168.1.1", "::2", ""])
def test_nobody_outside_of_the_pod_can_drain_it(
    play: Callable[..., None], client_address: str
) -> None:
    async def scenario(client: Client) -> None:
        app: Application = lambda scope, receive, send: client.app(  # noqa: E731
            {**scope, "client": (client_address, 1)}, receive, send
        )
        answer = await Client(app, client.engine).post("/tunesmith/drain")

        assert answer.status == 403
        assert (await client.get("/tunesmith/state"))[1]["draining"] is False

    play(scenario)


def test_requests_become_samples_in_order_of_arrival(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        await client.post(CHAT, {"max_tokens": 3, "stream": True})
        await client.post("/v1/completions", {"max_tokens": 2, "prompt": "x"})
        await client.post(CHAT, {"model": "other"})
        await client.get("/v1/models")
        page = (await client.get("/tunesmith/samples?after=0&limit=10"))[1]

        assert [sample["seq"] for sample in page["samples"]] == [1, 2, 3]
        streamed, whole, refused = page["samples"]
        assert streamed["outputTokens"] == 3
        assert streamed["ttftSeconds"] > 0
        assert whole["outputTokens"] == 2
        assert refused["error"] is True
        assert (page["next"], page["dropped"], page["watermarkSeconds"]) == (3, 0, 0)
        assert page["instance"] == (await client.get("/tunesmith/state"))[1]["instance"]

    play(scenario)


def test_samples_of_one_conversation_are_alike_and_tell_nobody(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        for headers in ({"x-conversation-id": PLANTED}, {"authorization": "Bearer k"}) * 2:
            await client.post(CHAT, {"max_tokens": 1}, **headers)
        samples = (await client.get("/tunesmith/samples"))[1]["samples"]

        clusters = [sample["cluster"] for sample in samples]
        assert clusters[0] == clusters[2] != clusters[1] == clusters[3]
        assert PLANTED not in json.dumps(samples)

    play(scenario)


def test_no_text_outlives_its_request(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        async def speaking(scope: Scope, receive: Receive, send: Send) -> None:
            start = {"type": "http.response.start", "status": 200, "headers": []}
            await send({**start, "headers": [(b"content-type", b"text/event-stream")]})
            choice = {"index": 0, "delta": {"content": PLANTED}}
            event = b"data: " + json.dumps({"choices": [choice]}).encode()
            # The last one is no whole line: it waits for its end.
            await send({"type": "http.response.body", "body": event + b"\n" + event})

        replica = Replica(speaking, client.app._settings)  # type: ignore[attr-defined]
        await Client(replica, client.engine).post(
            CHAT, {"messages": [PLANTED]}, authorization=PLANTED
        )
        assert replica._traffic.ring.after(0, limit=9, now=1e9).samples
        assert PLANTED not in _texts_below(replica._traffic)

    play(scenario)


def _texts_below(root: Any) -> str:
    """Every text and every byte that can be reached from `root`, but modules and classes."""
    seen, texts, todo = {id(root)}, [], [root]
    while todo:
        for item in gc.get_referents(todo.pop()):
            if id(item) in seen or isinstance(item, type) or type(item).__name__ == "module":
                continue
            seen.add(id(item))
            # The globals of our own functions lead everywhere, this test's text included.
            if not callable(item) or hasattr(item, "__self__"):
                todo.append(item)
            if isinstance(item, str | bytes):
                texts.append(item if isinstance(item, str) else item.decode("latin-1"))
    return "\n".join(texts)


def test_pieces_go_on_before_they_are_looked_at(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    read = Measurement.read

    def noting(measurement: Measurement, piece: bytes, *, now: float) -> bool:
        order.append("read")
        return read(measurement, piece, now=now)

    monkeypatch.setattr(Measurement, "read", noting)

    async def scenario(client: Client) -> None:
        async def keeping(scope: Scope, receive: Receive, send: Send) -> None:
            async def kept(message: Message) -> None:
                if message["type"] == "http.response.body":
                    order.append("sent")
                await send(message)

            await client.app(scope, receive, kept)

        await Client(keeping, client.engine).post(CHAT, {"max_tokens": 3, "stream": True})
        assert order == ["sent", "read"] * 4

    play(scenario)


@pytest.mark.parametrize("method", ["start", "read", "end"])
def test_a_fault_in_measuring_breaks_no_request(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(*_given: Any, **_named: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Measurement, method, fail)

    async def scenario(client: Client) -> None:
        answer = await client.post(CHAT, {"max_tokens": 3, "stream": True})

        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert (await client.get("/tunesmith/state"))[1]["running"] == 0

    play(scenario)


def test_whoever_has_no_key_leaves_no_sample(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sesame")

    async def scenario(client: Client) -> None:
        client.engine._api_key = "sesame"
        await client.post(CHAT, {"max_tokens": 1})
        await client.post(CHAT, {"max_tokens": 1}, authorization="Bearer sesame")
        # The replica's own questions bear the key.
        await client.becomes("Ready")
        page = (await client.get("/tunesmith/samples"))[1]

        assert [sample["seq"] for sample in page["samples"]] == [2]

    play(scenario)


def test_the_rest_of_the_server_is_left_alone(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/tunesmith/nothing"))[0] == 404
        assert (await client.get("/tunesmith/samples?after=x"))[0] == 400
        assert (await client.get("/nothing"))[0] == 404

    play(scenario)
