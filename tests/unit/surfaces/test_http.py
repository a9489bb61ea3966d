"""Every HTTP server of ours against requests that no client of ours sends.

Not the metrics of training: those the server of prometheus_client answers alone.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from command import free_port
from compared_jobs import two_jobs
from fuzzing import LONG, SHORT
from http_fuzzing import Reply, Request, ask, hold
from job_folders import a_failed_job
from played_replica import KNOWN, write_fingerprints
from stand_in import Faults, StandIn
from tunesmith_cli.live.server import serve_page
from tunesmith_cli.live.watcher import Watcher
from tunesmith_cli.ui.server import serve_ui
from tunesmith_operator.controller.health import Health, serve_http
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_serving.replica.adapter_host import AdapterHost
from tunesmith_serving.replica.adapter_requests import parse_body, read_body, with_body
from tunesmith_serving.replica.host_settings import HostSettings
from tunesmith_serving.replica.in_process import Receive, Scope, Send
from tunesmith_serving.replica.middleware import Replica, respond
from tunesmith_serving.replica.settings import ReplicaSettings
from watched import sighting

HIDDEN: Final = "nobody-may-read-this"


@dataclass(frozen=True, slots=True)
class Surface:
    """A server that listens: what it is known to answer, and the key to it where it has one."""

    port: int
    targets: Sequence[str]
    key: str = ""

    def check(self, content: bytes, reply: Reply) -> None:
        """Nothing from outside of what is served, and nothing to whoever has no key."""
        assert not reply.is_our_failure, reply
        assert HIDDEN.encode() not in reply.body
        if self.key and reply.status == 200:
            assert self.key.encode() in content or b"/favicon.ico" in content


Run = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]


@contextmanager
def in_a_thread(run: Run) -> Iterator[None]:
    """Run this, which calls what it is given once it listens, in a loop of its own."""
    listens, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def work() -> None:
        loops.append(asyncio.get_running_loop())
        running = asyncio.create_task(run(listens.set))
        await stop.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        assert listens.wait(timeout=20)
        yield
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(timeout=20)


def _document(namespace: str, name: str) -> str | None:
    return "{}" if (namespace, name) == ("ns", "helpdesk") else None


@contextmanager
def operator(_: Path, *, of_health: bool = False) -> Iterator[Surface]:
    metrics, health = free_port(), free_port()

    async def run(listens: Callable[[], None]) -> None:
        documents = Health(documents={"recordings": _document})
        ports = serve_http(Metrics(), documents, metrics_port=metrics, health_port=health)
        async with ports:
            listens()
            await asyncio.Event().wait()

    with in_a_thread(run):
        if of_health:
            yield Surface(health, ["/healthz", "/readyz"])
        else:
            yield Surface(metrics, ["/metrics", "/recordings/ns/helpdesk", "/recordings/..%2f/a"])


@contextmanager
def health(folder: Path) -> Iterator[Surface]:
    with operator(folder, of_health=True) as surface:
        yield surface


@contextmanager
def page_of_ui(folder: Path) -> Iterator[Surface]:
    home = folder / "home"
    two_jobs(home)
    a_failed_job(home)
    (home / "secrets").mkdir()
    for outside in (home / "secrets/key", folder / "rows.jsonl"):
        outside.write_text(HIDDEN)
    with serve_ui(home, port=None) as url:
        port, _, key = url.removeprefix("http://127.0.0.1:").strip("/").partition("/")
        names = [each.name for each in (home / "jobs").iterdir()]
        pages = ["", "ui.js", "state.json", f"compare?first={names[0]}&second={names[1]}"]
        pages += [f"jobs/{name}/{page}" for name in names for page in ("report", "log/prepare")]
        targets = [f"/{key}/{page}" for page in pages] + ["/", "/favicon.ico", "/key/state.json"]
        yield Surface(int(port), targets, key)


@contextmanager
def page_of_deploy(_: Path) -> Iterator[Surface]:
    watcher = Watcher(lambda: sighting(0))
    watcher._history = watcher._history.after(sighting(0)).after(sighting(1))
    with serve_page(watcher, port=None) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        yield Surface(port, ["/", "/page.js", "/state.json", "/state.json?after=1"])


class Engine:
    """The stand-in, and what vLLM's own server refuses before it."""

    def __init__(self) -> None:
        self._engine = StandIn(model="helpdesk", faults=Faults(), known=[KNOWN])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST" or not scope["path"].startswith("/v1/"):
            await self._engine(scope, receive, send)
            return
        asked = parse_body(await read_body(receive))
        # Of fields of other types than are wanted it says nothing of its own.
        if asked is None or not {"max_tokens": 1}.items() <= asked.items() or "user" in asked:
            await respond(send, 400, {"message": "a request is wanted"})
            return
        await self._engine(*with_body(scope, asked, receive), send)


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listens()


@contextmanager
def served(app: Replica | AdapterHost, *pages: str) -> Iterator[Surface]:
    """An application as vLLM serves it."""
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="critical", lifespan="off", ws="none")

    async def run(listens: Callable[[], None]) -> None:
        server = _Server(config, listens)
        try:
            await server._serve()
        finally:
            app.end()

    own = [f"/tunesmith/{page}" for page in pages]
    with in_a_thread(run):
        yield Surface(port, [*own, "/v1/chat/completions", "/v1/completions", "/v1/models"])


@contextmanager
def replica(folder: Path) -> Iterator[Surface]:
    known = write_fingerprints(folder)
    settings = ReplicaSettings(version="helpdesk-v7", model="helpdesk", fingerprints=known)
    pages = ("ready", "live", "reference", "state", "samples?after=1&limit=2", "drift?after=0")
    with served(Replica(Engine(), settings), *pages, "drain") as surface:
        yield surface


@contextmanager
def adapter_host(_: Path) -> Iterator[Surface]:
    settings = HostSettings(digest="sha256:0", revision="0a1b2c3d", model="helpdesk")
    host = AdapterHost(Engine(), settings, registry=CollectorRegistry())
    with served(
        host, "ready", "live", "state", "adapters", "samples?adapter=a", "drain"
    ) as surface:
        yield surface


SURFACES: Final[dict[str, Callable[[Path], AbstractContextManager[Surface]]]] = {
    "metrics and documents of the operator": operator,
    "health of the operator": health,
    "page of ui": page_of_ui,
    "page of deploy": page_of_deploy,
    "replica": replica,
    "replica of adapters": adapter_host,
}


def try_surface(name: str, folder: Path, *, examples: int) -> None:
    """Hold it, and see that it is as it was; each reply is judged by `Surface.check`."""
    with SURFACES[name](folder) as surface:
        good = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n"
        content = good % (surface.targets[0].encode(), surface.port)
        well_formed = Request(content, is_whole=True)
        before = ask(surface.port, well_formed).status
        threads = threading.active_count()
        targets = [target.encode() for target in surface.targets]
        hold(surface.port, targets, surface.check, examples=examples)
        after = ask(surface.port, well_formed).status

        assert {before, after} <= {200, 503}
        assert threading.active_count() <= threads + 2


@pytest.mark.parametrize("name", SURFACES)
def test_a_server_answers_or_refuses(name: str, tmp_path: Path) -> None:
    try_surface(name, tmp_path, examples=SHORT)


@pytest.mark.long
@pytest.mark.parametrize("name", SURFACES)
def test_a_server_answers_or_refuses_whatever_comes(name: str, tmp_path: Path) -> None:
    try_surface(name, tmp_path, examples=LONG // 4)
