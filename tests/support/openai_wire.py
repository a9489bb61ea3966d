"""Talks to an OpenAI server by bare HTTP, and says what came over the wire, not what it means."""

import http.client
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

KEY: Final = "sesame"
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """Status, headers in lower case and body; the body is empty where it never came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body of an answer in one piece."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events; [DONE] is a text."""
        lines = [line for line in self.body.decode().splitlines() if line.startswith("data: ")]
        data = [line.removeprefix("data: ") for line in lines]
        return [text if text == "[DONE]" else json.loads(text) for text in data]


def call(
    port: int, path: str, body: Any = None, *, key: str = KEY, timeout: float = _TIMEOUT_S
) -> WireAnswer:
    """One request on a connection of its own; a POST if it has a body.

    Raises:
        OSError: nothing answers, or not in time.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    given = body if isinstance(body, str | None) else json.dumps(body)
    try:
        connection.request("GET" if given is None else "POST", path, given, headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return WireAnswer(response.status, names, response.read())
    finally:
        connection.close()


@dataclass(slots=True)
class Pending:
    """A request in a thread of its own."""

    thread: threading.Thread
    answers: list[WireAnswer] = field(default_factory=list)

    def answer(self, timeout: float = _TIMEOUT_S) -> WireAnswer | None:
        """Its answer; None if none has come in time, or the connection broke."""
        self.thread.join(timeout)
        return self.answers[0] if self.answers else None


def call_beside(port: int, path: str, body: Any) -> Pending:
    """Send a request, and do not wait for its answer."""
    answers: list[WireAnswer] = []

    def run() -> None:
        try:
            answers.append(call(port, path, body, timeout=120))
        except (OSError, http.client.HTTPException):
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return Pending(thread, answers)


def shape(value: Any) -> Any:
    """The names and types of a JSON value; of a list, without repetition."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [kept for kept, _ in groupby(map(shape, value))]
    return value if value == "[DONE]" else type(value).__name__
