"""The network between the operator and the API server, in which a test breaks what it wants broken.

A proxy on loopback, in a thread of its own. It takes one token at a time, and is trusted by one
certificate at a time, as its kubeconfig says. Requests go on to `kubectl proxy`; what goes wrong on
the way says a `Fault`.
"""

# ruff: noqa: ARG002 - a fault is told what another may need
import asyncio
import base64
import json
import secrets
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from certificates import write_certificate

_LONGEST_LINE: Final = 4 << 20
_GONE: Final = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}

_UNAUTHORIZED: Final = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401,
                        "reason": "Unauthorized", "message": "Unauthorized"}  # fmt: skip


class Lost(Exception):  # noqa: N818
    """The connection breaks before the answer is there."""


@dataclass(frozen=True)
class Call:
    """A request of the operator."""

    method: str
    path: str
    query: Mapping[str, str]
    content: bytes = b""

    @property
    def is_write(self) -> bool:
        return self.method not in {"GET", "HEAD"}

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") in {"true", "1"}

    @cached_property
    def body(self) -> dict[str, Any]:
        """What is written."""
        found: dict[str, Any] = json.loads(self.content or b"{}")
        return found

    @cached_property
    def _parts(self) -> list[str]:
        """`[namespaces, NAMESPACE,] resource[, name[, subresource]]`."""
        parts = self.path.strip("/").split("/")
        return parts[2:] if parts[0] == "api" else parts[3:]

    @property
    def namespace(self) -> str:
        """Whose objects the request is about; empty for those of the whole cluster."""
        return self._parts[1] if len(self._parts) > 2 and self._parts[0] == "namespaces" else ""

    @property
    def target(self) -> list[str]:
        """Resource, name and subresource, as far as given."""
        return self._parts[2:] if self.namespace else self._parts


@dataclass(frozen=True)
class Answer:
    """What the operator is answered."""

    status: int
    content: bytes


Send = Callable[[], Awaitable[Answer]]


class Fault:
    """What goes wrong: here, nothing. Everything in it runs in the network's own thread."""

    async def answer(self, call: Call, send: Send) -> Answer:
        """Answer the call; `send` hands it on to the API server.

        Raises:
            Lost: there is to be no answer.
        """
        return await send()

    def passes(self, call: Call, event: dict[str, Any]) -> bool:
        """Whether the operator hears of this event of a watch."""
        return True


class Network:
    """The way from one operator to the API server, which that finds by its `kubeconfig`."""

    def __init__(self, upstream: str, fault: Fault, *, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._upstream = upstream
        self._fault = fault
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._port = 0
        self._token = ""
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority = self._new_certificate()
        self._server: web.Server | None = None
        self._is_cut = False
        self._is_silent = False
        self._watches: dict[ClientResponse, web.Request] = {}
        self._forgotten: set[ClientResponse] = set()

    def rotate_token(self) -> None:
        """Write another token into the kubeconfig, and refuse the one before.

        Connections that are there stay, as the API server leaves them.
        """
        token, name = secrets.token_hex(), "through-the-network"
        trusted = {"certificate-authority-data": base64.b64encode(self._authority).decode()}
        server = {"server": f"https://127.0.0.1:{self._port}", **trusted}
        cluster = {"name": name, "cluster": server}
        user = {"name": name, "user": {"token": token}}
        context = {"name": name, "context": {"cluster": name, "user": name}}
        told = {"clusters": [cluster], "users": [user], "contexts": [context]}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": name, **told}
        # In one step, as a kubelet does: who reads in between would find half a file.
        new = self.kubeconfig.with_suffix(".new")
        new.write_text(json.dumps(config))
        new.rename(self.kubeconfig)
        self._token = token

    def rotate_certificate(self) -> None:
        """Have a certificate of another authority, which the kubeconfig names from now on.

        Every connection breaks, as when an API server starts with it.
        """
        self._authority = self._new_certificate()
        self.rotate_token()
        self._loop.call_soon_threadsafe(self._break_all)

    def _new_certificate(self) -> bytes:
        path = self.kubeconfig.with_suffix(".pem")
        trusted = write_certificate(path)
        self._tls.load_cert_chain(path)
        return trusted

    def cut(self) -> None:
        """Break every connection, and each later one until it is mended."""
        self._is_cut = True
        self.break_watches()

    def silence(self) -> None:
        """From now on nothing gets through, either way, and no connection breaks."""
        self._is_silent = True

    def mend(self) -> None:
        """From now on connections hold again."""
        self._is_cut = False

    def break_watches(self) -> None:
        """Break the connections of all watches; they may be made again at once."""
        self._loop.call_soon_threadsafe(self._break_watches)

    def forget_watches(self) -> None:
        """Tell all watches that their version is too old, so that the operator lists anew."""
        self._loop.call_soon_threadsafe(self._forget_watches)

    def run(self) -> None:
        """Serve until told to stop: what the thread does."""
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def wait(self) -> None:
        """Wait until it serves."""
        assert self._ready.wait(timeout=20)

    def stop(self) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        self._server = runner.server
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self._port = runner.addresses[0][1]
        async with ClientSession(
            connector=TCPConnector(limit=0),
            timeout=ClientTimeout(total=None),
            read_bufsize=_LONGEST_LINE,
        ) as self._session:
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    def _break_all(self) -> None:
        for connection in self._server.connections if self._server else ():
            if connection.transport is not None:
                connection.transport.abort()

    def _break_watches(self) -> None:
        for request in self._watches.values():
            _break(request)

    def _forget_watches(self) -> None:
        for upstream in self._watches:
            self._forgotten.add(upstream)
            upstream.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.method, request.path, dict(request.query), await request.read())
        try:
            await self._get_through()
            if request.headers.get("Authorization") != f"Bearer {self._token}":
                return web.json_response(_UNAUTHORIZED, status=HTTPStatus.UNAUTHORIZED)
            if call.is_watch:
                return await self._watch(call, request)
            answer = await self._fault.answer(call, lambda: self._send(request, call))
            await self._get_through()
        except Lost:
            _break(request)
            return web.Response(status=502)
        return web.Response(
            status=answer.status, body=answer.content, content_type="application/json"
        )

    async def _send(self, request: web.Request, call: Call) -> Answer:
        told = request.headers
        headers = {key: told[key] for key in ("Accept", "Content-Type") if key in told}
        async with self._session.request(
            call.method, self._url(request), data=call.content or None, headers=headers
        ) as upstream:
            return Answer(upstream.status, await upstream.read())

    async def _watch(self, call: Call, request: web.Request) -> web.StreamResponse:
        async with self._session.get(self._url(request)) as upstream:
            answer = web.StreamResponse(status=upstream.status)
            answer.content_type = "application/json"
            await answer.prepare(request)
            self._watches[upstream] = request
            try:
                async for line in upstream.content:
                    await self._get_through()
                    # What refuses a watch, the proxy of a server that is away for one, is no event.
                    is_event = upstream.status == HTTPStatus.OK
                    if not is_event or self._fault.passes(call, json.loads(line)):
                        await answer.write(line)
            except ClientError:
                pass
            finally:
                del self._watches[upstream]
        if upstream in self._forgotten:
            self._forgotten.remove(upstream)
            await answer.write(json.dumps(_GONE).encode() + b"\n")
        return answer

    async def _get_through(self) -> None:
        if self._is_cut:
            raise Lost
        if self._is_silent:
            await asyncio.Event().wait()

    def _url(self, request: web.Request) -> URL:
        return URL(f"{self._upstream}{request.raw_path}", encoded=True)


@contextmanager
def a_network(upstream: str, fault: Fault) -> Iterator[tuple[Network, Path]]:
    """A network, and the path of the kubeconfig of an operator that goes through it."""
    with TemporaryDirectory() as folder:
        network = Network(upstream.rstrip("/"), fault, kubeconfig=Path(folder) / "kubeconfig")
        thread = threading.Thread(target=network.run)
        thread.start()
        try:
            network.wait()
            network.rotate_token()
            yield network, network.kubeconfig
        finally:
            network.stop()
            thread.join()


def _break(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
