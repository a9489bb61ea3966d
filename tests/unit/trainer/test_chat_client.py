"""An endpoint is asked once for each answer, patiently, and its key goes nowhere else."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer, chat_server
from tunesmith_api.endpoint import Endpoint
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError, StageError, TransientError
from tunesmith_trainer.chat_client import ChatClient, cost_of
from tunesmith_trainer.data.rows import Message, ToolCall

KEY = "sk-sesame"
HELLO = [Message("user", "Hello?")]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(lambda messages: f"heard {messages[-1]['content']}") as running:
        yield running


class Pauses(list[float]):
    """Sleeps nobody waits for; the clock goes on by them."""

    def sleep(self, seconds: float) -> None:
        self.append(seconds)

    def clock(self) -> float:
        return sum(self)


def client_of(server: ChatServer, cache: Path, pauses: Pauses, **endpoint: Any) -> ChatClient:
    given = {"url": server.url, "model": "large", **endpoint}
    return ChatClient(
        Endpoint.model_validate(given),
        field="evaluation.judge.endpoint",
        key=KEY,
        cache=cache,
        sleep=pauses.sleep,
        clock=pauses.clock,
    )


def test_an_answer_comes_with_its_tokens(server: ChatServer, tmp_path: Path) -> None:
    reply = client_of(server, tmp_path, Pauses()).reply(HELLO, max_tokens=5)

    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("heard Hello?", 1, 2)
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("large", 5, 0)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_another_attempt_asks_only_what_has_no_answer_yet(
    server: ChatServer, tmp_path: Path
) -> None:
    first = client_of(server, tmp_path, Pauses()).reply(HELLO, max_tokens=5)

    again = client_of(server, tmp_path, Pauses())

    assert again.reply(HELLO, max_tokens=5) == first
    again.reply(HELLO, max_tokens=6)
    assert len(server.requests) == 2


def test_a_broken_file_of_an_answer_is_asked_for_again(server: ChatServer, tmp_path: Path) -> None:
    client = client_of(server, tmp_path, Pauses())
    client.reply(HELLO, max_tokens=5)
    (kept,) = tmp_path.iterdir()
    kept.write_text('["cut o')

    assert client.reply(HELLO, max_tokens=5).text == "heard Hello?"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_overloaded_endpoint_is_asked_again_with_longer_pauses(
    server: ChatServer, tmp_path: Path, status: int
) -> None:
    server.faults = [status, status]
    pauses = Pauses()

    assert client_of(server, tmp_path, pauses).reply(HELLO, max_tokens=5).text == "heard Hello?"
    assert pauses == [1.0, 2.0]


def test_an_endpoint_that_stays_down_may_be_tried_another_time(
    server: ChatServer, tmp_path: Path
) -> None:
    server.faults = [503] * 9

    with pytest.raises(TransientError, match=r"no answer in 5 attempts \(status 503\)"):
        client_of(server, tmp_path, Pauses()).reply(HELLO, max_tokens=5)


def test_nobody_listening_may_be_tried_another_time(tmp_path: Path) -> None:
    with chat_server(lambda _: "") as gone:
        pass

    with pytest.raises(TransientError, match="ConnectError") as caught:
        client_of(gone, tmp_path, Pauses()).reply(HELLO, max_tokens=5)
    assert caught.value.reason == Reason.SOURCE_UNREACHABLE


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "secretRef (api-key)"), (404, "check url and model")]
)
def test_a_refusal_is_told_by_its_code_without_the_key(
    server: ChatServer, tmp_path: Path, status: int, advice: str
) -> None:
    server.faults = [status]
    server.error = {"code": "told_no", "message": f"Incorrect key: {KEY}"}

    with pytest.raises(BadInputError, match=re.escape(advice)) as caught:
        client_of(server, tmp_path, Pauses()).reply(HELLO, max_tokens=5)

    assert f"status {status} (told_no)" in caught.value.message
    assert KEY not in caught.value.message
    assert caught.value.reason == Reason.ENDPOINT_UNUSABLE


def test_what_speaks_another_protocol_is_no_endpoint(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults = [200]

    with pytest.raises(BadInputError, match="no chat completion"):
        client_of(server, tmp_path, Pauses()).reply(HELLO, max_tokens=5)


def test_a_redirect_is_not_followed(server: ChatServer, tmp_path: Path) -> None:
    server.faults = [307]

    with pytest.raises(StageError, match="status 307"):
        client_of(server, tmp_path, Pauses()).reply(HELLO, max_tokens=5)


def test_requests_keep_the_rate_that_is_asked_for(server: ChatServer, tmp_path: Path) -> None:
    pauses = Pauses()
    client = client_of(server, tmp_path, pauses, maxRequestsPerMinute=30)

    for max_tokens in range(1, 4):
        client.reply(HELLO, max_tokens=max_tokens)

    assert pauses == [2.0, 2.0]


def test_no_file_holds_the_key(server: ChatServer, tmp_path: Path) -> None:
    client_of(server, tmp_path, Pauses()).reply(HELLO, max_tokens=5)

    assert KEY not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_tokens_cost_what_the_prices_say(server: ChatServer) -> None:
    prices = {"pricePerMillionTokens": {"input": 1.0, "output": 4.0}}
    endpoint = Endpoint.model_validate({"url": server.url, "model": "m", **prices})

    assert cost_of(endpoint, prompt_tokens=2e6, completion_tokens=5e5) == 4.0
    bare = Endpoint.model_validate({"url": server.url, "model": "m"})
    assert cost_of(bare, prompt_tokens=1, completion_tokens=1) is None


@pytest.mark.parametrize(
    "url", ["ftp://a/v1", "http://user:key@a/v1", "https://a/v1?key=1", "file:///etc/passwd"]
)
def test_an_address_is_http_and_holds_no_key(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        Endpoint.model_validate_json(json.dumps({"url": url, "model": "m"}))


def test_tools_and_calls_are_handed_on_as_the_protocol_has_them(
    server: ChatServer, tmp_path: Path
) -> None:
    call = Message("assistant", "", (ToolCall("weather", {"at": "Oslo"}, "c1"),))
    tool = {"type": "function", "function": {"name": "weather"}}
    messages = [*HELLO, call, Message("tool", "-3", tool_call_id="c1")]

    client_of(server, tmp_path, Pauses()).reply(messages, max_tokens=5, tools=[tool])

    body = server.requests[-1]
    assert body["tools"] == [tool]
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"at": "Oslo"}'
    assert body["messages"][2] == {"role": "tool", "content": "-3", "tool_call_id": "c1"}


def test_an_answer_that_trickles_in_is_given_up(server: ChatServer, tmp_path: Path) -> None:
    client = ChatClient(
        Endpoint(url=server.url, model="large"),
        field="evaluation.judge.endpoint",
        key=KEY,
        cache=tmp_path,
        sleep=lambda _: None,
        # Ten minutes and more go by between any two looks.
        clock=itertools.count(0.0, 700.0).__next__,
    )

    with pytest.raises(TransientError, match="had not ended an answer after 600 s"):
        client.reply(HELLO, max_tokens=5)
    # Each request may be paid for.
    assert len(server.requests) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("body", "because"),
    [
        (b" " * (17 << 20), "more than 16 MiB"),
        (b'{"choices":' + b"[" * 100_000, "no chat completion"),
        (b'{"choices": [' + b"[" * 200 + b"]" * 200 + b"]}", "no chat completion"),
    ],
    ids=["endless", "deep beyond reading", "deep"],
)
def test_an_answer_that_means_harm_is_refused(
    server: ChatServer, tmp_path: Path, body: bytes, because: str
) -> None:
    server.bodies.append(body)

    with pytest.raises(BadInputError, match=because):
        client_of(server, tmp_path, Pauses()).reply(HELLO, max_tokens=5)
    assert not list(tmp_path.iterdir())
