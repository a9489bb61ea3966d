"""A replica around a stand-in for the engine, in this process, and a client that asks it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from stand_in import Faults, StandIn
from tunesmith_serving.replica.fingerprints import Fingerprint
from tunesmith_serving.replica.in_process import Application, Response
from tunesmith_serving.replica.in_process import request as ask
from tunesmith_serving.replica.middleware import Replica
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.verify.reference_generations import KnownChat

KNOWN = Fingerprint(promptIds=[1, 2], answerIds=[3, 4], logprobs=[-1.0, -2.0])
CHAT = "/v1/chat/completions"
PLANTED = "xyzzy-nobody-may-keep-this"
ASKED = KnownChat.model_validate(
    {"messages": [{"role": "user", "content": PLANTED}], "promptIds": [5, 6]}
)

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


def write_fingerprints(folder: Path) -> Path:
    """Those that the stand-in gives, if it is told that it knows them."""
    path = folder / "fingerprints.json"
    known = {
        "probes": [KNOWN.model_dump(by_alias=True)],
        "chats": [ASKED.model_dump(by_alias=True)],
    }
    path.write_text(json.dumps(known))
    return path


def play_replica(
    scenario: Scenario,
    *,
    fingerprints: Path,
    progress_seconds: float = 5.0,
    max_probe_seconds: float = 0.01,
    known: Sequence[Fingerprint] = (KNOWN,),
    **faults: Any,
) -> None:
    """Play a scenario with a replica that asks its engine every few milliseconds."""
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

    async def scene() -> None:
        engine = StandIn(model="helpdesk", faults=Faults(**faults), known=known, chats=[ASKED])
        await scenario(Client(Replica(engine, settings), engine))

    asyncio.run(scene())
