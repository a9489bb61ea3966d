"""Small upstreams in threads that answer as a replica does, and remember who asked what."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tunesmith_engine.local.envoy.config import Endpoint


@dataclass
class Upstream:
    """One replica: `seen` holds the conversation of each request, in order."""

    name: str
    delay_seconds: float = 0.0
    is_ready: bool = True
    seen: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port)


@contextmanager
def upstream(name: str, **fields: Any) -> Iterator[Upstream]:
    """Serve on a free port until the block ends."""
    state = Upstream(name, **fields)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # In one packet: with small ones apart, the kernel waits 40 ms between them.
        wbufsize = 65536
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(200 if state.is_ready else 503)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            state.seen.append(self.headers.get("x-conversation-id", ""))
            state.paths.append(self.path)
            time.sleep(state.delay_seconds)
            self._answer(200)

        def _answer(self, status: int) -> None:
            body = json.dumps({"from": state.name}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
