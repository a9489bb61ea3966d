"""The middleware that vLLM loads: `--middleware tunesmith_serving.replica.middleware.Replica`.

Outermost in the server, so it sees what vLLM refuses for want of a key, too. Every response below
/v1 gets `x-tunesmith-version`, requests are counted and measured as they pass, and /tunesmith/ is
answered here. Whatever fails in measuring, the request goes on.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from prometheus_client import REGISTRY, CollectorRegistry

from tunesmith_serving.replica.clusters import salt
from tunesmith_serving.replica.fixed_prompts import FixedPrompts
from tunesmith_serving.replica.in_process import Application, Message, Receive, Scope, Send
from tunesmith_serving.replica.readiness import Heartbeat, Readiness
from tunesmith_serving.replica.replica_state import ReplicaState
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.replica.stable_answers import StableAnswers
from tunesmith_serving.replica.traffic import Traffic
from tunesmith_serving.replica.watch import Watch
from tunesmith_serving.tap.metrics import ReplicaMetrics
from tunesmith_serving.tap.probe_metrics import ProbeMetrics
from tunesmith_serving.tap.tap import Tap

MIDDLEWARE: Final = f"{__name__}.Replica"
VERSION_HEADER: Final = b"x-tunesmith-version"
OPENAI: Final = "/v1/"
OWN: Final = "/tunesmith/"
_LOOPBACK: Final = ("127.", "::1", "::ffff:127.")
_DEFAULT_LIMIT: Final = 1000
# What Starlette hands down in every scope, and its handlers need.
_SHARED: Final = ("app", "state")


class Replica:
    """An ASGI application around the engine's, of which there are `num_sharing` of one engine."""

    def __init__(
        self,
        app: Application,
        settings: ReplicaSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        registry: CollectorRegistry | None = None,
        num_sharing: Callable[[], int] = lambda: 1,
    ) -> None:
        self._app = app
        if registry is None:
            # vLLM makes it with the application alone, and shows the process's registry. Whoever
            # makes several in one process says where each counts.
            registry = REGISTRY if settings is None else CollectorRegistry()
        self._settings = settings or ReplicaSettings.from_environment()
        heartbeat = Heartbeat()
        self._readiness = Readiness(self._settings.progress_seconds, heartbeat)
        shared_salt = salt()
        self._stable = stable_answers(app, self._settings, salt=shared_salt)
        metrics = ReplicaMetrics(
            models=[self._settings.model], version=self._settings.version, registry=registry
        )
        self._traffic = Traffic(
            heartbeat=heartbeat,
            clock=clock,
            stable=self._stable,
            model=self._settings.model,
            metrics=metrics,
            salt=shared_salt,
            tap=Tap(metrics=metrics, clock=clock) if self._settings.tap else None,
        )
        self._state = ReplicaState(
            self._settings, readiness=self._readiness, traffic=self._traffic, clock=clock
        )
        self._watch = Watch(
            app,
            self._settings,
            readiness=self._readiness,
            metrics=ProbeMetrics(
                model=self._settings.model, version=self._settings.version, registry=registry
            ),
            clock=clock,
            num_sharing=num_sharing,
        )
        self._fixed = self._fixed_prompts(clock)
        self._watching: asyncio.Task[Any] | None = None
        self._version = (VERSION_HEADER, self._settings.version.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through."""
        # The first scope is that of the server's own start, when the engine has loaded.
        self.begin(shared_by(scope))
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith(OWN):
            await respond(send, *self._own(scope))
        elif scope["type"] == "http" and path.startswith(OPENAI):
            await self._openai(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _run(self) -> None:
        """What a replica does by itself, until cancelled."""
        tasks = [self._watch.run()]
        if self._fixed is not None:
            tasks.append(self._fixed.run())
        await asyncio.gather(*tasks)

    def _fixed_prompts(self, clock: Callable[[], float]) -> FixedPrompts | None:
        if self._stable is None:
            return None
        return FixedPrompts(
            self._settings,
            stable=self._stable,
            readiness=self._readiness,
            ring=self._traffic.ring,
            clock=clock,
        )

    @property
    def num_running(self) -> int:
        """Requests under way."""
        return self._readiness.heartbeat.num_running

    def begin(self, shared: Mapping[str, Any]) -> None:
        """Watch the engine from now on, if nobody does yet; `shared` is what `shared_by` gives."""
        if self._watching is not None:
            return
        self._watch.shared = shared
        if self._stable is not None:
            self._stable.shared = shared
        self._watching = asyncio.get_running_loop().create_task(self._run())

    def end(self) -> None:
        """Watch no more."""
        if self._watching is not None:
            self._watching.cancel()

    def drain(self) -> None:
        """Be ready no more, for good."""
        self._readiness.is_draining = True

    def report(self) -> dict[str, Any]:
        """What `GET /tunesmith/state` tells."""
        return self._state.state()

    async def _openai(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._version]
                if self._readiness.is_draining:
                    # Clients with open connections would come back otherwise, whatever is routed.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        if scope["method"] == "POST":
            await self._traffic.passed(self._app, scope, receive, tagged)
        else:
            await self._app(scope, receive, tagged)

    def _own(self, scope: Scope) -> tuple[int, dict[str, Any]]:
        """Status and content of what is asked below /tunesmith/."""
        match scope["method"], scope["path"].removeprefix(OWN):
            case "GET", ("ready" | "live" | "reference") as page:
                pages = {
                    "ready": self._state.ready,
                    "live": self._state.live,
                    "reference": self._state.reference,
                }
                return pages[page]()
            case "GET", "state":
                return 200, self._state.state()
            case "GET", ("samples" | "drift") as page:
                return self._page(page, scope["query_string"])
            case "POST", "drain":
                return self._drain((scope.get("client") or ("",))[0])
        return 404, {"message": f"there is no {scope['path']}"}

    def _drain(self, client: str) -> tuple[int, dict[str, Any]]:
        if not is_inside(client):
            return 403, {"message": "drain is asked for from inside of the pod"}
        self.drain()
        return 200, self._state.state()

    def _page(self, page: str, query: bytes) -> tuple[int, dict[str, Any]]:
        given = parse_qs(query.decode("ascii", "replace"))
        try:
            after = max(0, int(given.get("after", ["0"])[0]))
            limit = max(1, int(given.get("limit", [str(_DEFAULT_LIMIT)])[0]))
        except ValueError:
            return 400, {"message": "after and limit are whole numbers"}
        if page == "drift":
            return self._state.drift(after=after)
        return 200, self._state.samples(after=after, limit=limit)


def stable_answers(
    app: Application, settings: ReplicaSettings, *, salt: bytes
) -> StableAnswers | None:
    """What compares a candidate with stable, where it was told to."""
    if settings.stable_url is None:
        return None
    return StableAnswers(
        app,
        url=settings.stable_url,
        model=settings.model,
        fraction=settings.compare_fraction,
        salt=salt,
    )


def shared_by(scope: Scope) -> dict[str, Any]:
    """What requests from inside of the process have to take over from any other."""
    return {name: scope[name] for name in _SHARED if name in scope}


def is_inside(client: str) -> bool:
    """Whether an address is of the pod itself."""
    return client.startswith(_LOOPBACK)


async def respond(send: Send, status: int, content: dict[str, Any]) -> None:
    """A whole response of JSON."""
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
