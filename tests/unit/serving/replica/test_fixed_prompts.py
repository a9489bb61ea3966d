"""Where clients ask too little, a candidate is compared with stable on the version's prompts."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stand_in import Faults, StandIn
from tunesmith_engine.deployment.request_identity import SALT_VARIABLE
from tunesmith_serving.replica.clusters import is_marked, mark
from tunesmith_serving.replica.fingerprints import Fingerprint
from tunesmith_serving.replica.in_process import request
from tunesmith_serving.replica.middleware import Replica
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.replica.stable_answers import StableAnswers

CHAT = "/v1/chat/completions"
KNOWN = [
    Fingerprint(promptIds=[number, 2], answerIds=[3, 4], logprobs=[-1.0, -2.0])
    for number in range(10, 13)
]
Scene = Callable[[Replica, Replica], Awaitable[None]]
pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stable, and a candidate that asks it in the same process, as it would over a connection."""
    path = tmp_path / "fingerprints.json"
    path.write_text(json.dumps({"probes": [probe.model_dump(by_alias=True) for probe in KNOWN]}))
    monkeypatch.setenv(SALT_VARIABLE, "of the deployment")

    def played(scene: Scene, **faults: Any) -> None:
        async def scenario() -> None:
            stable = _replica(StandIn(model="helpdesk", faults=Faults(), known=KNOWN), path)
            engine = StandIn(model="helpdesk", faults=Faults(**faults), known=KNOWN)

            async def ask_stable(
                answers: StableAnswers, at: str, asked: Any, headers: Mapping[str, str]
            ) -> Any:
                answer = await _post(stable, at, asked, **headers, **answers._mark)
                return json.loads(answer)

            monkeypatch.setattr(StableAnswers, "_ask_stable", ask_stable)
            await scene(stable, _replica(engine, path, stable_url="http://stable"))

        asyncio.run(scenario())

    return played


def test_without_a_client_every_prompt_is_compared_and_named(play: Callable[..., None]) -> None:
    async def scene(stable: Replica, candidate: Replica) -> None:
        samples = await _samples(candidate, at_least=3)

        assert [sample["qualityLoss"] for sample in samples[:3]] == [pytest.approx(0.4)] * 3
        assert len({sample["fixedPrompt"] for sample in samples[:3]}) == 3
        assert samples[0].keys() == {"seq", "ageSeconds", "qualityLoss", "fixedPrompt"}

    play(scene, loss=0.4)


def test_nobody_counts_them_as_requests_of_clients(play: Callable[..., None]) -> None:
    async def scene(stable: Replica, candidate: Replica) -> None:
        await _samples(candidate, at_least=3)

        for replica in (stable, candidate):
            state = await _get(replica, "/tunesmith/state")
            assert (state["accepted"], state["running"]) == (0, 0)
        assert (await _get(stable, "/tunesmith/samples"))["samples"] == []

    play(scene)


def test_versions_with_other_tokens_are_not_compared(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stand_in.StandIn.__call__", _with_own_tokens(StandIn.__call__))

    async def scene(stable: Replica, candidate: Replica) -> None:
        await asyncio.sleep(0.3)

        assert (await _get(candidate, "/tunesmith/samples"))["samples"] == []

    play(scene)


def test_a_comparison_of_a_clients_request_takes_its_place(play: Callable[..., None]) -> None:
    async def scene(stable: Replica, candidate: Replica) -> None:
        await _becomes_ready(candidate)
        asked = {"model": "helpdesk", "prompt": [5, 6], "max_tokens": 2}
        for _ in range(40):
            await _post(candidate, "/v1/completions", asked)
            await asyncio.sleep(0.005)

        samples = (await _get(candidate, "/tunesmith/samples"))["samples"]
        # A busy machine may leave a gap between two requests.
        assert sum("fixedPrompt" in sample for sample in samples) <= 5
        assert sum("qualityLoss" in sample for sample in samples) >= 10
        # Neither are the questions that came of them anybody's at stable.
        assert (await _get(stable, "/tunesmith/state"))["accepted"] == 0

    play(scene)


@pytest.mark.parametrize("value", ["", "0" * 64, mark(salt=b"another deployment")])
def test_a_client_cannot_make_the_mark(value: str) -> None:
    headers = [(b"x-tunesmith-comparison", value.encode())]

    assert not is_marked(headers, salt=b"of the deployment")
    assert not is_marked([], salt=b"of the deployment")


def _replica(engine: StandIn, path: Path, *, stable_url: str | None = None) -> Replica:
    settings = ReplicaSettings(
        version="v2",
        model="helpdesk",
        fingerprints=path,
        probe_seconds=0.01,
        max_probe_seconds=0.01,
        stable_url=stable_url,
        compare_fraction=1.0,
        compare_seconds=0.02,
    )
    return Replica(engine, settings)


def _with_own_tokens(call: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Each engine makes another text of the same ids."""

    async def called(engine: StandIn, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if scope.get("path") == "/detokenize" and message["type"] == "http.response.body":
                message = {**message, "body": json.dumps({"prompt": str(id(engine))}).encode()}
            await send(message)

        await call(engine, scope, receive, sent)

    return called


async def _post(replica: Replica, path: str, asked: Any, **headers: str) -> bytes:
    body = json.dumps(asked).encode()
    answer = await request(replica, path, method="POST", body=body, headers=headers, shared={})
    assert answer.status == 200
    return answer.body


async def _get(replica: Replica, path: str) -> Any:
    answer = await request(replica, path, method="GET", headers={}, shared={})
    return json.loads(answer.body)


async def _becomes_ready(replica: Replica) -> None:
    async with asyncio.timeout(10):
        while not (await _get(replica, "/tunesmith/state"))["ready"]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def _samples(replica: Replica, *, at_least: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        while True:
            samples: list[dict[str, Any]] = (await _get(replica, "/tunesmith/samples"))["samples"]
            if len(samples) >= at_least:
                return samples
            await asyncio.sleep(0.01)
