"""The middleware around a stand-in for the engine: tags, measures, answers, and never disturbs."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stand_in import Faults, StandIn
from tunesmith_serving.replica.fingerprints import Fingerprint
from tunesmith_serving.replica.in_process import (
    Application,
    Message,
    Receive,
    Response,
    Scope,
    Send,
)
from tunesmith_serving.replica.in_process import request as ask
from tunesmith_serving.replica.measurement import Measurement
from tunesmith_serving.replica.middleware import Replica
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.verify.reference_generations import KnownChat

KNOWN = Fingerprint(promptIds=[1, 2], answerIds=[3, 4], logprobs=[-1.0, -2.0])
CHAT = "/v1/chat/completions"
PLANTED = "xyzzy-nobody-may-keep-this"
ASKED = KnownChat.model_validate(
    {"messages": [{"role": "user", "content": PLANTED}], "promptIds": [5, 6]}
)

pytestmark = pytest.mark.timeout(30)
Scenario = Callable[["Client"], Awaitable[None]]


class Client:
    """Asks a replica from inside of the process."""

    def __init__(self, app: Application, engine: StandIn) -> None:
        self.app, self.engine = app, engine

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        shared = {"query_string": query.encode()}
        # `request` sets the query itself: what is handed down here is laid over it.
        app: Application = lambda scope, receive, send: self.app({**scope, **shared}, receive, send)  # noqa: E731
        answer = await ask(app, path, method="GET", headers=headers, shared={})
        return answer.status, json.loads(answer.body)

    async def post(self, path: str, body: Any = None, **headers: str) -> Response:
        return await ask(
            self.app,
            path,
            method="POST",
            body=json.dumps(body or {}).encode(),
            headers=headers,
            shared={},
        )

    async def becomes(self, reason: str) -> None:
        async with asyncio.timeout(5):
            while (await self.get("/tunesmith/ready"))[1]["reason"] != reason:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.fixture
def fingerprints(tmp_path: Path) -> Path:
    path = tmp_path / "fingerprints.json"
    known = {
        "probes": [KNOWN.model_dump(by_alias=True)],
        "chats": [ASKED.model_dump(by_alias=True)],
    }
    path.write_text(json.dumps(known))
    return path


@pytest.fixture
def play(fingerprints: Path) -> Callable[..., None]:
    """Play a scenario with a replica that asks its engine every few milliseconds."""

    def played(
        scenario: Scenario,
        *,
        progress_seconds: float = 5.0,
        max_probe_seconds: float = 0.01,
        **faults: Any,
    ) -> None:
        async def scene() -> None:
            engine = StandIn(
                model="helpdesk", faults=Faults(**faults), known=[KNOWN], chats=[ASKED]
            )
            settings = ReplicaSettings(
                version="helpdesk-v7",
                digest="sha256:0",
                revision="0a1b2c3d",
                model="helpdesk",
                fingerprints=fingerprints,
                probe_seconds=0.01,
                max_probe_seconds=max_probe_seconds,
                probe_token_fraction=0.5,
                progress_seconds=progress_seconds,
            )
            await scenario(Client(Replica(engine, settings), engine))

        asyncio.run(scene())

    return played


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


def test_who_gives_the_fingerprints_is_ready(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        await client.becomes("Ready")
        status, state = await client.get("/tunesmith/state")

        assert status == 200
        assert (state["version"], state["digest"], state["revision"], state["ready"]) == (
            "helpdesk-v7", "sha256:0", "0a1b2c3d", True,
        )  # fmt: skip
        # Its own questions are nobody's requests.
        assert (state["accepted"], state["running"]) == (0, 0)

    play(scenario)


def test_fingerprints_are_paid_for_by_what_clients_had_computed(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        async def num_probes() -> Any:
            await asyncio.sleep(0.1)
            return (await client.get("/tunesmith/state"))[1]["probe"]["probes"]

        await client.becomes("Ready")
        # One while it was not ready, which nobody pays for.
        assert await num_probes() == 2
        # The other took five tokens, and a half of what is served may go into them.
        await client.post(CHAT, {"max_tokens": 9})
        assert await num_probes() == 2
        await client.post(CHAT, {"max_tokens": 1})
        assert await num_probes() == 3

    play(scenario, max_probe_seconds=60)


def test_an_idle_engine_is_asked_all_the_same(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        await client.becomes("Ready")
        await asyncio.sleep(0.5)
        assert (await client.get("/tunesmith/state"))[1]["probe"]["probes"] > 1

    play(scenario, max_probe_seconds=0.05)


def test_other_weights_are_not_ready_until_they_are_right(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        await client.becomes("FingerprintMismatch")
        assert (await client.get("/tunesmith/ready"))[0] == 503
        client.engine.faults = Faults()
        await client.becomes("Ready")
        client.engine.faults = Faults(nonsense=True)
        await client.becomes("FingerprintMismatch")

    play(scenario, nonsense=True)


@pytest.mark.parametrize(("noise", "reason"), [(None, "Ready"), (0.02, "FingerprintMismatch")])
def test_a_version_with_little_noise_is_held_to_less(
    play: Callable[..., None], fingerprints: Path, noise: float | None, reason: str
) -> None:
    """Known answers 0.3 nats off, as weights of fewer bits may make them."""
    known = json.loads(fingerprints.read_text())
    known["probes"][0]["logprobs"] = [value + 0.3 for value in KNOWN.logprobs]
    fingerprints.write_text(json.dumps({**known, "noise": noise}))

    async def scenario(client: Client) -> None:
        await client.becomes(reason)
        probe = (await client.get("/tunesmith/state"))[1]["probe"]
        assert (probe["worstNats"], probe["lossNats"]) == pytest.approx((0.3, 0.3))

    play(scenario)


def test_another_chat_template_is_not_ready_though_its_weights_are_right(
    play: Callable[..., None],
) -> None:
    async def scenario(client: Client) -> None:
        await client.becomes("FingerprintMismatch")
        state = (await client.get("/tunesmith/state"))[1]
        assert "1 of 1 known conversations" in state["message"]
        assert PLANTED not in state["message"]
        client.engine.faults = Faults()
        await client.becomes("Ready")

    play(scenario, template=True)


def test_an_engine_that_fails_is_not_ready(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        await client.becomes("GenerationFailed")

    play(scenario, errors=1.0)


def test_an_engine_that_hangs_is_seen_though_its_health_is_200(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        await client.becomes("Ready")
        client.engine.faults = Faults(hang=True)
        pending = asyncio.create_task(client.post(CHAT, {"max_tokens": 3}))
        await client.becomes("NoProgress")

        health = await ask(client.app, "/health", method="GET", headers={}, shared={})
        assert health.status == 200
        assert (await client.get("/tunesmith/state"))[1]["running"] == 1
        pending.cancel()

    play(scenario, progress_seconds=0.2)


def test_an_idle_engine_that_hangs_is_seen_by_the_next_question(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        await client.becomes("Ready")
        client.engine.faults = Faults(hang=True)
        await client.becomes("NoProgress")
        client.engine.faults = Faults()
        await client.becomes("Ready")

    play(scenario, progress_seconds=0.1)


def test_a_long_answer_in_one_piece_is_no_hang(play: Callable[..., None]) -> None:
    async def scenario(client: Client) -> None:
        await client.becomes("Ready")
        answer = await client.post(CHAT, {"max_tokens": 60})

        assert answer.status == 200
        assert (await client.get("/tunesmith/ready"))[0] == 200

    play(scenario, progress_seconds=0.3, itl=0.01)


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


def test_a_server_ends_at_any_moment_of_the_watch(play: Callable[..., None]) -> None:
    """`asyncio.wait_for` of Python 3.11 loses a cancellation, and the server never ended."""
    for turns in range(40):

        async def scenario(client: Client, turns: int = turns) -> None:
            await client.get("/tunesmith/state")
            for _ in range(turns):
                await asyncio.sleep(0)

        play(scenario, ttft=0.0)
