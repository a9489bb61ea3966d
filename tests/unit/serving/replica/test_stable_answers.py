"""A candidate scores the answers of stable, whatever happens to either."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from asgi_messages import read_body, send_json
from tunesmith_serving.replica.in_process import Receive, Scope, Send, request
from tunesmith_serving.replica.middleware import Replica
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.replica.stable_answers import (
    StableAnswer,
    quality_loss,
    question,
    read_answer,
)

CHAT = "/v1/chat/completions"
SECRET = "zanzibar"
ASKED = {"model": "helpdesk", "messages": [{"role": "user", "content": SECRET}], "stream": False}


def stable_response(logprobs: list[float]) -> dict[str, Any]:
    return {
        "prompt_token_ids": [1, 2, 3],
        "choices": [
            {
                "token_ids": [7] * len(logprobs),
                "logprobs": {"content": [{"logprob": value} for value in logprobs]},
            }
        ],
    }


def scored_response(logprobs: list[float]) -> dict[str, Any]:
    views = [None, {"2": {"logprob": -1.0}}, {"3": {"logprob": -1.0}}]
    views += [{"7": {"logprob": value}} for value in logprobs]
    return {"choices": [{"prompt_logprobs": views}]}


def test_the_loss_is_in_nats_per_token() -> None:
    answer = read_answer(CHAT, stable_response([-0.5, -0.25]))

    assert answer == StableAnswer([1, 2, 3], [7, 7], [-0.5, -0.25])
    assert quality_loss(answer, scored_response([-1.0, -0.75])) == pytest.approx(0.5)
    assert quality_loss(answer, scored_response([float("nan"), -0.75])) is None


def test_stable_is_asked_for_one_short_greedy_answer() -> None:
    asked = question(CHAT, {**ASKED, "stream": True, "n": 4, "max_tokens": 9000, "temperature": 1})

    assert asked["messages"] == ASKED["messages"]
    assert "stream" not in asked
    assert "n" not in asked
    assert (asked["max_tokens"], asked["temperature"]) == (64, 0)


def test_an_answer_without_a_token_is_not_scored() -> None:
    assert read_answer(CHAT, stable_response([])) is None


async def candidate_app(scope: Scope, receive: Receive, send: Send) -> None:
    asked = json.loads(await read_body(receive))
    if "prompt_logprobs" in asked:
        await send_json(send, 200, scored_response([-1.0, -0.75]))
        return
    choice = {"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}
    await send_json(send, 200, {"choices": [choice], "usage": {"completion_tokens": 1}})


async def samples_after_one_request(url: str, tmp_path: Any) -> list[dict[str, Any]]:
    replica = Replica(
        candidate_app,
        ReplicaSettings(
            version="v2",
            model="helpdesk",
            fingerprints=tmp_path / "none.json",
            stable_url=url,
            compare_fraction=1.0,
        ),
    )
    headers = {"content-type": "application/json", "authorization": "Bearer key"}
    body = json.dumps(ASKED).encode()
    answer = await request(replica, CHAT, method="POST", body=body, headers=headers, shared={})
    assert answer.status == 200
    for _ in range(200):
        page = await request(replica, "/tunesmith/samples", method="GET", headers={}, shared={})
        assert SECRET.encode() not in page.body
        if samples := json.loads(page.body)["samples"]:
            return list(samples)
        await asyncio.sleep(0.01)
    raise AssertionError("no sample came")


def test_a_sample_says_how_much_worse_the_candidate_is(tmp_path: Any) -> None:
    """Over a real connection; stable sees the client's own key."""
    keys: list[str] = []

    async def answer(asked: web.Request) -> web.Response:
        keys.append(asked.headers["authorization"])
        return web.json_response(stable_response([-0.5, -0.25]))

    async def scenario() -> list[dict[str, Any]]:
        app = web.Application()
        app.router.add_post(CHAT, answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            return await samples_after_one_request(f"http://127.0.0.1:{port}", tmp_path)
        finally:
            await runner.cleanup()

    (sample,) = asyncio.run(scenario())

    assert sample["qualityLoss"] == pytest.approx(0.5)
    assert keys == ["Bearer key"]


def test_without_stable_the_sample_comes_all_the_same(tmp_path: Any) -> None:
    (sample,) = asyncio.run(samples_after_one_request("http://127.0.0.1:9", tmp_path))

    assert "qualityLoss" not in sample
    assert sample["outputTokens"] == 1
