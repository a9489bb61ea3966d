"""An OpenAI-compatible server in a thread, whose answers are a function of what it is asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# How long an end waits: the library looks twice a second, which a hundred tests would feel.
_POLL_S = 0.01

Messages = list[dict[str, str]]


@dataclass
class ChatServer:
    """What it was asked so far, and how it fails.

    `faults` are statuses of its next answers, `bodies` what they hold in place of a completion.
    """

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    error: dict[str, Any] = field(default_factory=lambda: {"code": "told_no", "message": "no"})


@contextmanager
def chat_server(answer: Callable[[Messages], str]) -> Iterator[ChatServer]:
    """Serve on a free port of this machine until the block ends."""
    told = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            told.requests.append({"path": self.path, **body})
            told.headers.append({name.lower(): value for name, value in self.headers.items()})
            if told.faults:
                self._send(told.faults.pop(0), {"error": told.error})
                return
            if told.bodies:
                self._write(200, told.bodies.pop(0))
                return
            text = answer(body["messages"])
            asked = sum(len(turn["content"].split()) for turn in body["messages"])
            usage = {"prompt_tokens": asked, "completion_tokens": len(text.split())}
            choice = {"index": 0, "message": {"role": "assistant", "content": text}}
            self._send(200, {"choices": [choice], "usage": usage})

        def _send(self, status: int, body: dict[str, Any]) -> None:
            self._write(status, json.dumps(body).encode())

        def _write(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
