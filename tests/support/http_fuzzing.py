"""Requests that no client of ours sends, to a server that really listens, and what it may answer.

What schemathesis draws from a schema is drawn here from addresses that are known to a server: other
methods, paths, queries, headers and bodies, as bytes on a socket. Whatever comes, the server
answers, soon, and with no failure of its own; `make test` tries the same few each time, `make
test-long` many others.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from fuzzing import SHORT, broken, fuzzing_settings

# Seconds: until a server that waits for more is told that there is none, and until it has answered.
_PAUSE_S: Final = 0.05
_LONGEST_S: Final = 20.0
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_METHODS: Final = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"get", b"FOO", b"G(T"]
_PIECES: Final = [
    b"/../../../etc/passwd", b"%2e%2e%2f%2e%2e%2f", b"%00", b"//[", b"//[::1", b"/%ff%fe", b"%",
    b"?after=-1", b"?after=" + b"9" * 5000, b"?after=1e9&limit=0", b"&limit=" + b"9" * 40, b"\xff",
    b";", b"a" * 3000, b"http://127.0.0.1/", b"?adapter=%00", b" ", b"\t", b"\x00", b"?a=%zz", b"#",
    b"?after=%d9%a3",
]  # fmt: skip
_ODD: Final = [
    b"//[",
    b"//[::1/",
    b"http://[/x",
    b"*",
    b"example.org:443",
    b"",
    b"//x:y/",
    b"/..;/",
]
_BODIES: Final = [
    b"", b"{", b"[]", b"null", b'"\\ud800"', b"\xff" * 9, b"[" * 999, b"9" * 5000, b'{"model": 1}',
    b'{"model": "m", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 1}',
    b'{"prompt": "Why?", "max_tokens": 1}', b'{"prompt": [[1]], "max_tokens": 1, "stream": true}',
    b'{"model": null, "messages": 7}', b'{"messages": [{"content": [{"type": 1}]}], "user": []}',
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; without a status, nothing did or it was no HTTP."""

    status: int | None
    body: bytes
    is_empty: bool

    @property
    def is_our_failure(self) -> bool:
        """5xx, except where a server says in JSON why it is not ready."""
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            # Nothing follows the head of an answer to HEAD.
            return self.body != b"" and not self.body.startswith(b"{")
        # A method that it does not know is the client's fault.
        is_ours = (self.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
        return is_ours and self.status != HTTPStatus.NOT_IMPLEMENTED


Check = Callable[[bytes, Reply], None]


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes; of one that is not whole the server may wait for the rest."""

    content: bytes
    is_whole: bool


@st.composite
def requests(
    draw: st.DrawFn, port: int, targets: Sequence[bytes], headers: Sequence[bytes] = ()
) -> Request:
    """One request, more or less."""
    target = draw(
        st.one_of(
            st.sampled_from(targets),
            st.sampled_from(_ODD),
            broken(targets),
            st.tuples(st.sampled_from(targets), st.sampled_from(_PIECES)).map(b"".join),
            st.tuples(st.sampled_from(targets), st.binary(max_size=8)).map(b"".join),
        )
    )
    body = draw(st.one_of(st.just(b""), st.sampled_from(_BODIES), broken(_BODIES)))
    own = b"Host: 127.0.0.1:%d" % port
    host = draw(st.sampled_from([own, own, own, b"Host: example.org", b"Host:", b"X: y"]))
    right = b"Content-Length: %d" % len(body)
    length = draw(
        st.sampled_from(
            [
                *([right] * 20),
                b"Content-Length: %d" % (len(body) + 9),
                b"Content-Length: -1",
                b"Content-Length: " + b"9" * 30,
                b"Content-Length: x",
                b"Transfer-Encoding: chunked",
                b"Content-Length: 1\r\nTransfer-Encoding: chunked",
            ]
        )
    )
    others = draw(
        st.lists(
            st.sampled_from(
                [
                    b"Content-Type: application/json",
                    b"Authorization: Bearer \xff",
                    b"X-Request-Id: " + b"a" * 9000,
                    b"Expect: 100-continue",
                    b"Connection: Upgrade\r\nUpgrade: websocket",
                    b"Range: bytes=0-99999999999999999999",
                    b"Accept: \x00",
                    b": nothing",
                    b"X",
                ]
            ),
            max_size=2,
        )
    )
    method = draw(st.sampled_from(_METHODS))
    first = [method + b" " + target + b" HTTP/1.1", host, *headers]
    head = [*first, length, *others, b"Connection: close"]
    return Request(b"\r\n".join(head) + b"\r\n\r\n" + body, is_whole=length == right)


def ask(port: int, request: Request) -> Reply:
    """Send it, and read until the server has closed the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=_LONGEST_S) as connection:
        if not request.is_whole:
            connection.settimeout(_PAUSE_S)
        answer = _exchange(connection, request.content).removeprefix(_CONTINUE)
    found = _STATUS.match(answer)
    body = answer.partition(b"\r\n\r\n")[2]
    return Reply(int(found[1]) if found else None, body, is_empty=not answer)


def _exchange(connection: socket.socket, content: bytes) -> bytes:
    received = bytearray()
    try:
        connection.sendall(content)
        while True:
            try:
                piece = connection.recv(1 << 16)
            except TimeoutError:
                if connection.gettimeout() == _LONGEST_S:
                    raise
                # It waits for the rest of the body.
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(_LONGEST_S)
                continue
            if not piece:
                return bytes(received)
            received += piece
    except (ConnectionResetError, BrokenPipeError):
        # Refused before all was sent.
        return bytes(received)


def hold(
    port: int,
    targets: Sequence[bytes],
    check: Check,
    *,
    headers: Sequence[bytes] = (),
    examples: int = SHORT,
) -> None:
    """Hold a server against many requests; `check` says what else must be true of each reply.

    `headers` are what every request has.
    """

    @fuzzing_settings(examples)
    @given(requests(port, targets, headers))
    def try_one(request: Request) -> None:
        reply = ask(port, request)
        assert not (request.is_whole and reply.is_empty)
        check(request.content, reply)

    try_one()
