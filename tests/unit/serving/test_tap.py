"""The tap in a replica: it measures what passes, keeps no text, and never disturbs."""

import asyncio
import gc
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from tunesmith_engine.drift.signals import measure
from tunesmith_engine.drift.sketches import Sketch
from tunesmith_serving.replica.in_process import Message, Receive, Scope, Send, request
from tunesmith_serving.replica.middleware import Replica
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.tap import tapped_request
from tunesmith_serving.tap.block_ring import BLOCK_SECONDS, CAPACITY, BlockRing
from tunesmith_serving.tap.tapped_request import MAX_REQUEST_BYTES, TappedRequest

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
PROMPT = "My printer prints nothing since yesterday."
ANSWER = "Turn it off and on again, then look whether its cable is plugged in."
USAGE = {"prompt_tokens": 12, "completion_tokens": 16}
CHATTED = {"messages": [{"role": "user", "content": PROMPT}]}
WHOLE = measure(PROMPT, ANSWER, prompt_tokens=12, output_tokens=16, finish_reason="stop")
Json = dict[str, Any]


def in_one_piece(*, usage: Json | None = USAGE, **choice: Any) -> list[bytes]:
    message = {"content": ANSWER} | choice.pop("message", {})
    whole = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    return [json.dumps({"choices": [whole], "usage": usage}).encode()]


def streamed(*deltas: Json, usage: Json | None = USAGE, reason: str = "stop") -> list[bytes]:
    choices: list[Json] = [{"index": 0, "delta": delta} for delta in deltas]
    choices[-1]["finish_reason"] = reason
    chunks = [{"choices": [choice]} for choice in choices]
    if usage:
        chunks.append({"choices": [], "usage": usage})  # type: ignore[dict-item]
    return [b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks] + [
        b"data: [DONE]\n\n"
    ]


def words(text: str = ANSWER) -> list[Json]:
    return [{"content": word} for word in text.replace(" ", " \0").split("\0")]


class Engine:
    """An application that reads a request and answers what it is told."""

    def __init__(self, pieces: Sequence[bytes], *, status: int, is_cut: bool) -> None:
        self._pieces, self._status, self._is_cut = pieces, status, is_cut

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        kind = b"text/event-stream" if self._pieces[0].startswith(b"data:") else b"text/plain"
        head: Message = {"type": "http.response.start", "status": self._status}
        await send({**head, "headers": [(b"content-type", kind)]})
        for place, piece in enumerate(self._pieces, start=1):
            more = self._is_cut or place < len(self._pieces)
            await send({"type": "http.response.body", "body": piece, "more_body": more})
        if self._is_cut:
            assert (await receive())["type"] == "http.disconnect"


class Tapped:
    """A replica, and what it tells."""

    def __init__(self, *, tap: bool = True) -> None:
        self.now = 100.0
        self.registry = CollectorRegistry()
        self._settings = ReplicaSettings(
            version="v1", model="helpdesk", fingerprints=Path("none"), tap=tap
        )
        self._engine: Any = None
        self.replica = Replica(self._answer, self._settings, lambda: self.now, self.registry)
        self.replica._watching = asyncio.get_running_loop().create_future()  # type: ignore[assignment]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._engine(scope, receive, send)

    async def ask(
        self,
        body: Any,
        pieces: Sequence[bytes],
        *,
        path: str = CHAT,
        status: int = 200,
        is_cut: bool = False,
    ) -> bytes:
        """What the client got, which goes before the end where the connection is cut."""
        self._engine = Engine(pieces, status=status, is_cut=is_cut)
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        app = self._hanging_up if is_cut else self.replica
        answer = await request(app, path, method="POST", body=text, headers={}, shared={})
        return answer.body

    async def _hanging_up(self, scope: Scope, receive: Receive, send: Send) -> None:
        pending: list[Message] = [{"type": "http.disconnect"}, await receive()]

        async def received() -> Message:
            return pending.pop()

        await self.replica(scope, received, send)

    async def page(self, query: str = "after=0") -> tuple[int, Json]:
        shared = {"query_string": query.encode()}

        async def asked(scope: Scope, receive: Receive, send: Send) -> None:
            await self.replica({**scope, **shared}, receive, send)

        answer = await request(asked, "/tunesmith/drift", method="GET", headers={}, shared={})
        return answer.status, json.loads(answer.body)

    async def sketch(self) -> Sketch:
        """Of everything that was measured so far."""
        self.now += BLOCK_SECONDS
        sketch = Sketch()
        for block in (await self.page())[1]["blocks"]:
            sketch = sketch.merge(Sketch.model_validate(block["sketch"]))
        return sketch

    def dropped(self, reason: str) -> float | None:
        labels = {"version": "v1", "reason": reason}
        return self.registry.get_sample_value("tunesmith_tap_dropped_total", labels)


def measured(
    body: Any, pieces: Sequence[bytes], *, dropped: str | None = None, **options: Any
) -> Sketch:
    """What the tap makes of one request, which the client does not notice."""

    async def scene() -> Sketch:
        tapped = Tapped()
        answer = await tapped.ask(body, pieces, **options)
        assert options.get("is_cut") or answer == b"".join(pieces)
        assert dropped is None or tapped.dropped(dropped) == 1
        return await tapped.sketch()

    return asyncio.run(scene())


@pytest.mark.parametrize(
    "pieces",
    [in_one_piece(), streamed(*words()), streamed({"role": "assistant", "content": ""}, *words())],
)
def test_a_request_is_measured_as_the_rows_of_a_job_are(pieces: list[bytes]) -> None:
    assert measured(CHATTED, pieces) == Sketch.of([WHOLE])


@pytest.mark.parametrize("prompt", [PROMPT, [PROMPT, "Another."]])
def test_a_completion_has_its_prompt_as_text(prompt: Any) -> None:
    pieces = in_one_piece(text=ANSWER, message={})

    assert measured({"prompt": prompt}, pieces, path=COMPLETION) == Sketch.of([WHOLE])


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2], [3]], None, 7])
def test_a_prompt_of_tokens_has_a_length_alone(prompt: Any) -> None:
    pieces = in_one_piece(text=ANSWER, message={})

    sketch = measured({"prompt": prompt}, pieces, path=COMPLETION)

    assert "promptWords" not in sketch.signals
    assert "promptTokens" in sketch.signals


def test_a_stream_without_usage_has_as_many_tokens_as_chunks() -> None:
    sketch = measured(CHATTED, streamed(*words(), usage=None))

    assert "promptTokens" not in sketch.signals
    expected = measure(None, None, output_tokens=len(ANSWER.split()))
    assert sketch.signals["outputTokens"] == Sketch.of([expected]).signals["outputTokens"]


def test_of_a_client_that_hung_up_the_prompt_is_measured() -> None:
    sketch = measured(CHATTED, streamed(*words(), usage=None)[:-1], is_cut=True)

    assert sketch == Sketch.of([measure(PROMPT, None)])


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_what_was_refused_is_no_traffic(status: int) -> None:
    assert measured(CHATTED, [b'{"error": {}}'], status=status) == Sketch()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{" + b'"messages": [' * 100_000, "longRequest"),
        (b"[" * MAX_REQUEST_BYTES, "unreadableRequest"),
        (b'{"messages": [', "unreadableRequest"),
        (b"\xff\xfe", "unreadableRequest"),
    ],
)
def test_a_request_that_cannot_be_read_is_counted_and_its_answer_measured(
    body: bytes, reason: str
) -> None:
    sketch = measured(body, in_one_piece(), dropped=reason)

    assert "promptWords" not in sketch.signals
    assert "answerWords" in sketch.signals


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        7,
        None,
        {"messages": 7},
        {"messages": [None, {"role": 7, "content": {}}, {"role": [], "content": PROMPT}]},
    ],
)
def test_a_request_without_a_prompt_has_none(body: Any) -> None:
    assert "promptWords" not in measured(body, in_one_piece()).signals


@pytest.mark.parametrize(
    "choice",
    [
        {"logprobs": {"content": [{}]}},
        {"logprobs": 7},
        {"message": {"tool_calls": [7]}},
        {"message": {"tool_calls": {"a": 1}}},
    ],
)
def test_an_odd_answer_is_measured_as_far_as_it_goes(choice: Json) -> None:
    sketch = measured(CHATTED, in_one_piece(**choice), dropped="unreadableAnswer")

    assert "outputTokens" in sketch.signals


FIELDS = (
    "messages role content text prompt index logprobs tool_calls function arguments "
    "finish_reason top_logprobs token_logprobs logprob"
)
JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(body=JSON, choice=st.dictionaries(st.sampled_from(["index", "logprobs", "text"]), JSON))
def test_whatever_is_asked_and_answered_nothing_is_raised(body: Any, choice: Json) -> None:
    tapped = TappedRequest()

    tapped.read_body(json.dumps({"messages": [body], **choice}).encode(), is_last=True)
    tapped.read_choice(choice, body)
    tapped.read_choice({**choice, "index": 0}, {"content": body, "tool_calls": body})

    assert isinstance(tapped.bins(prompt_tokens=1, output_tokens=1, is_whole=True), dict)


def test_calls_of_tools_are_put_together_from_their_pieces() -> None:
    parts = ['{"city"', ': "Bern"}']
    calls = [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in parts]

    sketch = measured(CHATTED, streamed(*calls, reason="tool_calls"))

    expected = measure(
        PROMPT, None, prompt_tokens=12, output_tokens=16, finish_reason="tool_calls",
        tool_arguments='{"city": "Bern"}',
    )  # fmt: skip
    assert sketch == Sketch.of([expected])


CHAT_LOGPROBS = {
    "content": [{"logprob": -0.5, "top_logprobs": [{"logprob": -0.6931}, {"logprob": -0.6931}]}]
}
COMPLETION_LOGPROBS = {
    "token_logprobs": [None, -0.5], "top_logprobs": [None, {"a": -0.6931, "b": -0.6931}],
}  # fmt: skip


@pytest.mark.parametrize("logprobs", [CHAT_LOGPROBS, COMPLETION_LOGPROBS])
def test_where_a_client_asks_for_log_probabilities_they_are_measured(logprobs: Json) -> None:
    sketch = measured(CHATTED, in_one_piece(logprobs=logprobs))

    # Half a nat, and the entropy of a coin: 0.69 nats.
    assert sketch == Sketch.of([WHOLE | {"logprob": 2, "entropy": 2}])


def test_of_several_answers_the_first_is_measured() -> None:
    choices = [
        {"index": index, "message": {"content": text}, "finish_reason": "stop"}
        for index, text in enumerate([ANSWER, "Something else."])
    ]
    body = json.dumps({"choices": choices, "usage": {**USAGE, "completion_tokens": 32}}).encode()

    assert measured(CHATTED, [body]) == Sketch.of([WHOLE])


def test_a_fault_in_measuring_costs_the_measurement_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> dict[str, int]:
        raise ZeroDivisionError

    monkeypatch.setattr(tapped_request, "measure", broken)

    assert measured(CHATTED, in_one_piece(), dropped="fault") == Sketch()


def play(scene: Callable[[Tapped], Any], **options: Any) -> None:
    async def played() -> None:
        await scene(Tapped(**options))

    asyncio.run(played())


def test_who_wants_no_tap_has_none() -> None:
    async def scene(tapped: Tapped) -> None:
        await tapped.ask(CHATTED, in_one_piece())

        assert (await tapped.page())[0] == 404

    play(scene, tap=False)


def test_a_page_tells_whose_blocks_they_are() -> None:
    async def scene(tapped: Tapped) -> None:
        for _ in range(20):
            await tapped.ask(CHATTED, in_one_piece())
        tapped.now += 5

        status, page = await tapped.page()
        blocks = page.pop("blocks")

        assert status == 200
        assert page == {
            "instance": tapped.replica._state.instance, "version": "v1", "next": 1, "dropped": 0,
        }  # fmt: skip
        assert [(block["seq"], block["ageSeconds"]) for block in blocks] == [(1, 5.0)]
        assert Sketch.model_validate(blocks[0]["sketch"]) == Sketch.of([WHOLE] * 16)
        tapped.now += BLOCK_SECONDS
        assert [block["seq"] for block in (await tapped.page("after=1"))[1]["blocks"]] == [2]
        assert (await tapped.page("after=x"))[0] == 400

    play(scene)


def test_a_reader_that_was_away_reads_on_and_knows_what_it_has_missed() -> None:
    ring = BlockRing()
    for _ in range(16 * (CAPACITY + 3)):
        ring.add({"refusal": 0}, now=1.0)

    place, num_blocks, num_dropped = 0, 0, 0
    while (page := ring.after(place, now=1.0)).blocks:
        place, num_blocks = page.next, num_blocks + len(page.blocks)
        num_dropped += page.dropped

    assert (place, num_blocks, num_dropped) == (CAPACITY + 3, CAPACITY, 3)
    assert ring.after(9999, now=1.0).next == CAPACITY + 3


def test_clients_make_no_series() -> None:
    async def scene(tapped: Tapped) -> None:
        await tapped.ask({**CHATTED, "model": "one"}, [b"{}"], status=404)
        before = len(generate_latest(tapped.registry).splitlines())
        for number in range(50):
            body = {**CHATTED, "model": f"model-{number}", f"key-{number}": number}
            await tapped.ask(body, [b"{}"], status=404)
            await tapped.ask(body, in_one_piece(finish_reason=f"reason-{number}"))

        assert len(generate_latest(tapped.registry).splitlines()) == before
        assert (await tapped.sketch()).num_requests == 50

    play(scene)


def test_no_text_stays_in_memory_pages_metrics_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    planted = [f"xyzzy{place}planted" for place in range(9)]
    messages = [
        {"role": "system", "content": planted[0]},
        {"role": "user", "content": [{"type": "text", "text": planted[1]}]},
    ]
    call = {"index": 0, "function": {"name": planted[2], "arguments": f'{{"{planted[3]}": 1}}'}}
    logprobs = {"content": [{"token": planted[4], "logprob": -1.0, "top_logprobs": []}]}

    async def scene(tapped: Tapped) -> None:
        body = {"messages": messages, "user": planted[5], "model": planted[6]}
        said = in_one_piece(
            message={"content": planted[7], "tool_calls": [call]},
            logprobs=logprobs,
            finish_reason=planted[8],
        )
        for pieces in (said, streamed({"content": planted[7], "tool_calls": [call]})):
            await tapped.ask(body, pieces)
            await tapped.ask(body, pieces, is_cut=True)
            await tapped.ask(json.dumps(body).encode()[:-1], pieces)
            await tapped.ask(body, [planted[7].encode()], status=500)
        tapped._engine = None
        gc.collect()

        written = json.dumps(await tapped.page("after=0")) + json.dumps(
            (await tapped.sketch()).signals
        )
        written += generate_latest(tapped.registry).decode() + caplog.text
        written += texts_below(tapped.replica._traffic)
        assert (await tapped.sketch()).num_requests > 0
        assert not [text for text in planted if text in written]

    with caplog.at_level(logging.DEBUG):
        play(scene)


def texts_below(root: Any) -> str:
    """Every text and every byte that can be reached from `root`, but modules and classes."""
    seen, texts, todo = {id(root)}, [], [root]
    while todo:
        for item in gc.get_referents(todo.pop()):
            if id(item) in seen or isinstance(item, type) or type(item).__name__ == "module":
                continue
            seen.add(id(item))
            # The globals of functions lead everywhere, this test's own text included.
            if not callable(item) or hasattr(item, "__self__"):
                todo.append(item)
            if isinstance(item, str | bytes | bytearray):
                texts.append(item if isinstance(item, str) else item.decode("latin-1"))
    return "\n".join(texts)
