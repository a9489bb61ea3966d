"""Requests at a constant rate, whatever the answers take, each judged by its content.

A status of 200 says nothing: vLLM gives answers up with 200, `abort` and [DONE] (vllm#57082), and a
stream that ends cleanly without [DONE] is taken for whole by clients.
"""

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

MODEL = "helpdesk"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `tokens` is the length of its answer."""

    tokens: int
    stream: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request; `problem` is None for a whole answer. Times in seconds."""

    version: str | None
    problem: str | None
    status: int
    started: float
    seconds: float


@dataclass
class Tally:
    """The outcomes so far."""

    outcomes: list[Outcome] = field(default_factory=list)

    def problems(self) -> dict[str, int]:
        return dict(Counter(o.problem for o in self.outcomes if o.problem))

    def versions(self) -> dict[str | None, int]:
        return dict(Counter(o.version for o in self.outcomes if o.problem is None))


def mixed(*, tokens: int = 8) -> Iterator[Request]:
    """Half of them streamed, for ever."""
    while True:
        yield Request(tokens, stream=True)
        yield Request(tokens, stream=False)


async def send(
    requests: Iterable[Request],
    *,
    url: str,
    rate: float,
    tally: Tally,
    timeout_s: float,
    stop: threading.Event | None = None,
) -> None:
    """Send them, `rate` a second, and wait for every answer."""
    connector = aiohttp.TCPConnector(limit=0)
    limit = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:
        running: set[asyncio.Task[None]] = set()
        begin = time.monotonic()
        for number, request in enumerate(requests):
            if stop is not None and stop.is_set():
                break
            # By the clock and not by the answers before: an open loop omits no wait.
            await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
            task = asyncio.create_task(_ask(session, request, url=url, tally=tally))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)


@contextmanager
def traffic(url: str, *, rate: float, timeout_s: float = 10.0) -> Iterator[Tally]:
    """Requests from another thread for as long as the block runs."""
    tally, stop = Tally(), threading.Event()

    def run() -> None:
        asyncio.run(send(mixed(), url=url, rate=rate, tally=tally, timeout_s=timeout_s, stop=stop))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield tally
    finally:
        stop.set()
        thread.join()


async def _ask(session: aiohttp.ClientSession, request: Request, *, url: str, tally: Tally) -> None:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Why?"}],
        "max_tokens": request.tokens,
        "stream": request.stream,
        # A token may have no text yet, so pieces of a stream are no count of tokens.
        **({"stream_options": {"include_usage": True}} if request.stream else {}),
    }
    started, version, status, content = time.monotonic(), None, 0, b""
    problem: str | None = None
    try:
        async with session.post(f"{url}/chat/completions", json=body) as response:
            version, status = response.headers.get("x-tunesmith-version"), response.status
            with suppress(aiohttp.ClientPayloadError):
                # What came before the connection broke is judged as it stands.
                async for piece in response.content.iter_any():
                    content += piece
            problem = problem_of(request, status, response.headers, content)
    except TimeoutError:
        problem = "timeout"
    except aiohttp.ClientError as error:
        problem = type(error).__name__
    seconds = time.monotonic() - started
    tally.outcomes.append(Outcome(version, problem, status, started, seconds))


def problem_of(
    request: Request, status: int, headers: Mapping[str, str], content: bytes
) -> str | None:
    """What keeps an answer from being whole; None: nothing."""
    if status != 200:
        return f"status {status}"
    if "x-tunesmith-version" not in headers:
        return "no version"
    try:
        return _stream_problem(request, content) if request.stream else _problem(request, content)
    except (ValueError, LookupError):
        return "broken JSON"


def _problem(request: Request, content: bytes) -> str | None:
    answer = json.loads(content)
    return _end_problem(
        request,
        answer["choices"][0]["finish_reason"],
        tokens=answer["usage"]["completion_tokens"],
    )


def _stream_problem(request: Request, content: bytes) -> str | None:
    if not content.endswith(b"data: [DONE]\n\n"):
        return "no [DONE]"
    reason, tokens = None, 0
    for line in content.split(b"\n\n")[:-2]:
        event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            return "error in the stream"
        for choice in event["choices"]:
            reason = choice["finish_reason"] or reason
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return _end_problem(request, reason, tokens=tokens)


def _end_problem(request: Request, reason: str | None, *, tokens: int) -> str | None:
    if reason not in {"stop", "length"}:
        return f"finish_reason {reason}"
    # A model may stop by itself; what was cut at the limit has all of its tokens.
    return None if reason == "stop" or tokens == request.tokens else "too short"


def main() -> None:
    """`open_loop.py URL RATE`: until the input ends, then print what became of the requests."""
    url, rate = sys.argv[1:]
    with traffic(url, rate=float(rate)) as tally:
        sys.stdin.read()
    json.dump({"problems": tally.problems(), "versions": tally.versions()}, sys.stdout)


if __name__ == "__main__":
    main()
