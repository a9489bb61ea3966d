"""Requests to an ASGI application from inside of its own process and event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Response:
    """What came back."""

    status: int
    body: bytes


async def request(
    app: Application,
    path: str,
    *,
    method: str,
    body: bytes = b"",
    headers: Mapping[str, str],
    shared: Mapping[str, Any],
) -> Response:
    """The whole response to one request.

    `shared` is what a framework has put into every scope on its way to a middleware, such as
    Starlette's `app`. Whatever the application raises is raised here.
    """
    scope = {
        **shared,
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
    }
    pending = [{"type": "http.request", "body": body, "more_body": False}]
    status, pieces = 500, []

    async def receive() -> Message:
        if pending:
            return pending.pop()
        # Nobody disconnects: whoever waits for that is cancelled.
        return await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            pieces.append(message.get("body", b""))

    await app(scope, receive, send)
    return Response(status=status, body=b"".join(pieces))
