"""The public name of a model, in and out: clients ask for it, the engine knows its adapters' names.

The engine writes the name that it was asked for into each answer and each piece of a stream, so it
is put back there.
"""

import json
from typing import Any, Final

from tunesmith_api.json_io import read_json
from tunesmith_serving.replica.in_process import Message, Receive, Scope, Send

# Of a request; what the proxy on a laptop lets in, too.
MAX_BODY_BYTES: Final = 64 << 20
_LENGTH: Final = b"content-length"


class BodyTooLarge(Exception):  # noqa: N818 - becomes an answer, 413
    """A request has more than `MAX_BODY_BYTES`."""


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request.

    Raises:
        BodyTooLarge: it is too large to be held.
    """
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge
        # A client that has gone sends nothing more either.
        if message["type"] != "http.request" or not message.get("more_body", False):
            return bytes(body)


def parse_body(body: bytes) -> dict[str, Any] | None:
    """A request's JSON; None if it is no object."""
    try:
        content = read_json(body)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def with_body(scope: Scope, body: dict[str, Any], receive: Receive) -> tuple[Scope, Receive]:
    """The request with another body for the one that has been read already."""
    content = json.dumps(body).encode()
    headers = [(name, value) for name, value in scope["headers"] if name != _LENGTH]
    headers = [pair for pair in headers if pair[0] != b"transfer-encoding"]
    headers.append((_LENGTH, b"%d" % len(content)))
    pending: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def received() -> Message:
        # Afterwards whatever comes, such as that the client has gone.
        return pending.pop() if pending else await receive()

    return {**scope, "headers": headers}, received


class PublicName:
    """Sends on what the engine answers, with `public` for `internal` as the model's name.

    Of a list of models (`is_list`) it leaves the public one alone.

    NB: the quotes make it safe. Within a text of JSON they would be escaped.
    """

    def __init__(self, send: Send, *, internal: str, public: str, is_list: bool = False) -> None:
        self._send = send
        self._public = public
        self._is_list = is_list
        self._changes = [
            (f'"model":{gap}"{internal}"'.encode(), f'"model":{gap}"{public}"'.encode())
            for gap in ("", " ")
        ]
        self._head: Message | None = None

    async def __call__(self, message: Message) -> None:
        """Send one message on, or hold it until its length is known."""
        if message["type"] == "http.response.start":
            if any(name == _LENGTH for name, _ in message.get("headers", ())):
                self._head = message
            else:
                await self._send(message)
            return
        body = message.get("body", b"")
        for old, new in self._changes:
            body = body.replace(old, new)
        if self._is_list:
            body = own_card(body, public=self._public)
        await self._send_head(body, is_whole=not message.get("more_body", False))
        await self._send({**message, "body": body})

    async def _send_head(self, body: bytes, *, is_whole: bool) -> None:
        if self._head is None:
            return
        headers = [pair for pair in self._head["headers"] if pair[0] != _LENGTH]
        # Of one that comes in pieces the length is not known, and it is sent in chunks.
        if is_whole:
            headers.append((_LENGTH, b"%d" % len(body)))
        await self._send({**self._head, "headers": headers})
        self._head = None


def own_card(models: bytes, *, public: str) -> bytes:
    """The answer to /v1/models without the adapters' names, which nobody may ask for."""
    content = parse_body(models)
    if content is None or "data" not in content:
        return models
    content["data"] = [card for card in content["data"] if card["id"] == public]
    return json.dumps(content).encode()


def error(status: int, message: str, *, kind: str) -> dict[str, Any]:
    """An error as vLLM's server words them."""
    return {"error": {"message": message, "type": kind, "param": "model", "code": status}}
