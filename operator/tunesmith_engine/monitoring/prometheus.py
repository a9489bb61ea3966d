"""A Prometheus that is asked for one number at a time, in bounded time and bounded bytes.

Its address comes from whoever runs the operator or the command, never from a manifest. No redirect
is followed, and nothing that it says gets into a message: a problem is one of a few words.
"""

import http.client
import math
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

from tunesmith_api.json_io import read_json
from tunesmith_api.modeldeployment.queries import QueryProblem

# A reading that takes longer is as good as none, and a rollout waits for it meanwhile.
TIMEOUT_S: Final = 4.0
_MAX_BYTES: Final = 1 << 18
_PIECE_BYTES: Final = 1 << 14
_AT_ONCE: Final = 8
_OK: Final = 200
# What Prometheus answers where the query itself is wrong, or cannot be evaluated.
_OF_THE_QUERY: Final = (400, 422)

Answer = float | QueryProblem


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The one that answers at `url`."""

    url: str

    @classmethod
    def at(cls, url: str) -> Self:
        """The one at `url`.

        Raises:
            ValueError: it is no http or https address, or has more than that in it.
        """
        parts = urlsplit(url)
        # `port` raises ValueError itself.
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError("this is no address of a Prometheus; give http://HOST:PORT")
        if parts.username or parts.password or parts.query or parts.fragment:
            # It would be in the arguments of a process that everybody on a machine can read.
            raise ValueError(
                "the address of a Prometheus holds no user, password or query; leave them out"
            )
        return cls(url)

    def ask(self, query: str) -> Answer:
        """The number that an instant query gives, or why there is none."""
        try:
            status, content = self._post(query)
        except (OSError, http.client.HTTPException, ValueError):
            return QueryProblem.UNREACHABLE
        if status in _OF_THE_QUERY:
            return QueryProblem.BAD_QUERY
        return number_in(content) if status == _OK else QueryProblem.REFUSED

    def ask_all(self, queries: Iterable[str]) -> list[Answer]:
        """The answers to several, asked side by side."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self.ask, queries))

    def _post(self, query: str) -> tuple[int, bytes]:
        until = time.monotonic() + TIMEOUT_S
        parts = urlsplit(self.url)
        is_https = parts.scheme == "https"
        kind = http.client.HTTPSConnection if is_https else http.client.HTTPConnection
        # Not urllib: it would follow redirects, and ask the user's proxy for a loopback address.
        connection = kind(str(parts.hostname), parts.port, timeout=TIMEOUT_S)
        try:
            connection.request(
                "POST",
                f"{parts.path.rstrip('/')}/api/v1/query",
                body=urlencode({"query": query, "timeout": f"{TIMEOUT_S:g}s"}),
                headers={
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Connection": "close",
                },
            )
            response = connection.getresponse()
            pieces, size = [], 0
            # NB: the socket's timeout counts from piece to piece, and they could come for ever.
            while piece := response.read1(_PIECE_BYTES):
                pieces.append(piece)
                size += len(piece)
                if size > _MAX_BYTES or time.monotonic() > until:
                    raise ValueError("the answer is too long, or takes too long")
            return response.status, b"".join(pieces)
        finally:
            connection.close()


def number_in(content: bytes) -> Answer:
    """The one number in the answer of Prometheus' HTTP API to an instant query."""
    try:
        data: dict[str, Any] = read_json(content)["data"]
        result = data["result"]
        if data["resultType"] == "vector":
            if len(result) != 1:
                return QueryProblem.SEVERAL_SERIES if result else QueryProblem.NO_DATA
            result = result[0]["value"]
        elif data["resultType"] != "scalar":
            return QueryProblem.BAD_QUERY
        number = float(result[1])
    except (ValueError, LookupError, TypeError):
        return QueryProblem.REFUSED
    return number if math.isfinite(number) else QueryProblem.NOT_A_NUMBER
