"""Requests and responses of a bare ASGI application, without a framework."""

import json
from typing import Any

from tunesmith_serving.replica.in_process import Receive, Send


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Start and end when the server says so."""
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request."""
    body: bytes = b""
    while True:
        message = await receive()
        piece: bytes = message.get("body", b"")
        body += piece
        if not message.get("more_body", False):
            return body


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client goes."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_start(
    send: Send, status: int, *, content_type: bytes, num_bytes: int | None = None
) -> None:
    """The head of a response; without `num_bytes` it is chunked."""
    headers = [(b"content-type", content_type)]
    if num_bytes is not None:
        headers.append((b"content-length", b"%d" % num_bytes))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def send_piece(send: Send, body: bytes, *, more: bool = True) -> None:
    """A piece of a response's body."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def send_response(send: Send, status: int, body: bytes, *, content_type: bytes) -> None:
    """A whole response."""
    await send_start(send, status, content_type=content_type, num_bytes=len(body))
    await send_piece(send, body, more=False)


async def send_json(send: Send, status: int, content: Any) -> None:
    """A whole response of JSON."""
    body = json.dumps(content, separators=(",", ":")).encode()
    await send_response(send, status, body, content_type=b"application/json")
