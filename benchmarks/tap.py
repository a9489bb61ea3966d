"""What the tap costs a replica's process: time for a request, by part, and memory over a million.

The texts are paragraphs of this documentation, as prompts and answers. One core, one thread.
"""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from commands import ROOT, summary
from prometheus_client import CollectorRegistry

from tunesmith_engine.drift.signals import measure as measure_request
from tunesmith_engine.drift.sketches import Bins
from tunesmith_serving.replica.measurement import Measurement
from tunesmith_serving.tap.block_ring import BlockRing
from tunesmith_serving.tap.metrics import ReplicaMetrics
from tunesmith_serving.tap.tap import Tap
from tunesmith_serving.tap.tapped_request import TappedRequest

_REPETITIONS: Final = 5
_NUM_TOKENS: Final = 64
_MILLION: Final = 1_000_000
Pair = tuple[str, str]


def measure(home: Path) -> dict[str, Any]:
    """Requests per second of the statistics, microseconds of the rest, and resident memory."""
    del home  # Nothing is kept.
    pairs = _texts()
    bins = [measure_request(*pair, prompt_tokens=40, output_tokens=90) for pair in pairs]
    return {
        "texts": len(pairs),
        "medianCharacters": [
            int(statistics.median(len(pair[part]) for pair in pairs)) for part in (0, 1)
        ],
        "statisticsPerSecond": _per_second(lambda: _count(bins), len(bins) * 100),
        "measurePerSecond": _per_second(lambda: _measure(pairs), len(pairs)),
        "measureMicroseconds": _microseconds(
            [partial(measure_request, *pair, prompt_tokens=40) for pair in pairs]
        ),
        # All of it: the body read, 64 chunks looked at, the request measured and counted.
        "requestMicroseconds": _microseconds([_request(pair) for pair in pairs]),
        "memory": _memory(pairs),
    }


def _texts() -> list[Pair]:
    """Neighbouring paragraphs, the shorter as prompt."""
    paragraphs = [
        " ".join(text.split())
        for path in sorted((ROOT / "docs").rglob("*.md"))
        for text in path.read_text(encoding="utf-8").split("\n\n")
        if 40 < len(text) < 4000 and not text.startswith(("|", "```", "#"))  # noqa: PLR2004
    ]
    pairs = zip(paragraphs[::2], paragraphs[1::2], strict=False)
    return [(min(pair, key=len), max(pair, key=len)) for pair in pairs][:500]


def _count(bins: Sequence[Bins]) -> None:
    ring = BlockRing()
    for _ in range(100):
        for of_request in bins:
            ring.add(of_request, now=0.0)


def _measure(pairs: list[Pair]) -> None:
    for prompt, answer in pairs:
        measure_request(prompt, answer, prompt_tokens=40, output_tokens=90, finish_reason="stop")


def _per_second(work: Callable[[], None], number: int) -> dict[str, Any]:
    rates = []
    for _ in range(_REPETITIONS):
        started = time.process_time()
        work()
        rates.append(number / (time.process_time() - started))
    return summary(rates)


def _microseconds(works: list[Callable[[], Any]]) -> dict[str, float]:
    """Median and 99th percentile over the requests, of the best of some repetitions each."""
    times = sorted(min(_timed(work) for _ in range(_REPETITIONS)) for work in works)
    return {
        "median": round(statistics.median(times), 1),
        "p99": round(times[int(0.99 * len(times))], 1),
    }


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6


def _request(pair: Pair) -> Callable[[], None]:
    tap = _tap()
    body, choices = _body(pair[0]), _choices(pair[1])
    return lambda: _pass_through(tap, body, choices)


def _tap() -> Tap:
    metrics = ReplicaMetrics(models=["m"], version="v", registry=CollectorRegistry())
    return Tap(metrics=metrics, clock=time.monotonic)


def _body(prompt: str) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()


def _choices(answer: str) -> list[dict[str, Any]]:
    size = -(-len(answer) // _NUM_TOKENS)
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": {"content": piece}} for piece in pieces]
    choices[-1]["finish_reason"] = "stop"
    return choices


def _pass_through(tap: Tap, body: bytes, choices: list[dict[str, Any]]) -> None:
    """What the tap does for one request; the chunks are parsed for the samples anyway."""
    tapped = TappedRequest()
    tapped.read_body(body, is_last=True)
    for choice in choices:
        tapped.read_choice(choice, choice["delta"])
    tap.add(tapped, Measurement(arrived=0.0, status=200, num_prompt_tokens=40))


def _memory(pairs: list[Pair]) -> dict[str, Any]:
    """Resident memory after so many requests of all lengths, in one process."""
    tap = _tap()
    requests = cycle([(_body(prompt), _choices(answer)) for prompt, answer in pairs])
    seen: dict[str, float] = {}
    done = 0
    for number in (50_000, 100_000, 250_000, 500_000, _MILLION):
        _pass_all(tap, islice(requests, number - done))
        done = number
        gc.collect()
        seen[f"mibAfter{number}"] = round(_resident_mib(), 2)
    return seen


def _pass_all(tap: Tap, requests: Iterator[tuple[bytes, list[dict[str, Any]]]]) -> None:
    for body, choices in requests:
        _pass_through(tap, body, choices)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20
