"""The detector of traffic drift: alarms in a month of ordinary traffic, and requests until one.

Real text in simulated traffic whose topics and load follow the day and the week; other drift tests
look at the same stream every hour. `simulated_traffic.py` says what it is made of.
"""

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import groupby, islice, takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
from other_drift_tests import looks
from simulated_traffic import (
    BEGIN,
    NEW,
    REFERENCE_ROWS,
    REQUESTS_OF_BLOCK,
    REQUESTS_PER_DAY,
    Counts,
    Pools,
    pools,
    sketch_of,
    traffic,
)

from tunesmith_engine.drift.e_detector import AVERAGE_RUN_LENGTH
from tunesmith_engine.drift.monitor import Block, DriftState, Watch, observe, report
from tunesmith_engine.drift.sketches import Reference

SEED: Final = 15
NUM_SAME, NUM_SHIFTED = 100, 5
DAYS, DAYS_BEFORE = 30, 7
# Glosses of a prompt: 12 words in the median, and 52.
SHORT, LONG = 1, 4
SHIFTS: Final = {
    **{f"topic.{topic}": (topic, 0.1) for topic in NEW},
    "otherScript": ("otherScript", 0.1),
    "otherWords": ("otherWords", 0.1),
    "injections": ("injection", 0.05),
}
_MOST_BLOCKS: Final = 250
_TIMED_BLOCKS: Final = 2000


def measure(home: Path) -> dict[str, Any]:
    """Runs with an alarm, requests until one, and blocks per second."""
    folder = home / "drift"
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        shifted = {
            name: list(workers.map(partial(_shifted, folder, glosses), range(NUM_SHIFTED)))
            for name, glosses in {"longPrompts": LONG, "shortPrompts": SHORT}.items()
        }
        same = list(workers.map(partial(_same, folder), range(NUM_SAME)))
    return {
        "unit": "runs with an alarm; requests until one, None: not within 4,000",
        "daysEach": DAYS,
        "requestsPerDay": REQUESTS_PER_DAY,
        "referenceRows": REFERENCE_ROWS,
        "averageRunLengthBlocks": AVERAGE_RUN_LENGTH,
        "same": {rule: _alarms([run[rule] for run in same]) for rule in same[0]},
        "shifted": {
            name: {shift: _delays([run[shift] for run in runs]) for shift in SHIFTS}
            for name, runs in shifted.items()
        },
        "blocksPerSecond": _throughput(),
        "seed": SEED,
        "versions": {"numpy": np.__version__},
    }


def _same(folder: Path, seed: int) -> dict[str, int]:
    """Alarms of each rule in a month where nothing changes: one counts until it has ended."""
    kept = folder / f"same-{seed}.json"
    if kept.exists():
        found: dict[str, int] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    reference = _pools(LONG).reference(random.Random(seed))
    chance = np.random.default_rng([SEED, 0, seed])
    watch = Watch.of(DriftState(), reference)
    rules: dict[str, list[bool]] = {}
    for hour in _hours(traffic(_pools(LONG), chance, begin=BEGIN)):
        has_drifted = False
        for at, counts in hour:
            watch = watch.after((at, sketch_of(counts, num=REQUESTS_OF_BLOCK)))
            has_drifted |= bool(watch.state.drifted)
        # What is stored is rounded.
        watch = Watch.of(watch.packed(), reference) if hour[0][0].hour == 0 else watch
        merged = sketch_of(
            np.sum([counts for _, counts in hour], axis=0), num=len(hour) * REQUESTS_OF_BLOCK
        )
        for rule, alarm in ({"tunesmith": has_drifted} | looks(reference, merged)).items():
            rules.setdefault(rule, [False]).append(alarm)
    alarms = {
        rule: int((np.diff(np.array(told, dtype=int)) > 0).sum()) for rule, told in rules.items()
    }
    kept.write_text(json.dumps(alarms), encoding="utf-8")
    print(f"bench: drift: month {seed}: {alarms}", file=sys.stderr, flush=True)
    return alarms


def _hours(blocks: Iterator[tuple[datetime, Counts]]) -> Iterator[list[tuple[datetime, Counts]]]:
    """The blocks of each hour, for a month."""
    month = takewhile(lambda block: block[0] < BEGIN + timedelta(days=DAYS), blocks)
    for _, hour in groupby(
        month, key=lambda block: block[0].replace(minute=0, second=0, microsecond=0)
    ):
        yield list(hour)


def _shifted(folder: Path, glosses: int, seed: int) -> dict[str, int | None]:
    """Requests until an alarm, of each shift after a week of ordinary traffic."""
    kept = folder / f"shifted-{glosses}-{seed}.json"
    if kept.exists():
        found: dict[str, int | None] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    source = _pools(glosses)
    reference = source.reference(random.Random(1000 + seed))
    usual = traffic(source, np.random.default_rng([SEED, 1, seed]), begin=BEGIN)
    state = observe(
        DriftState(),
        _blocks(usual, DAYS_BEFORE * REQUESTS_PER_DAY // REQUESTS_OF_BLOCK),
        reference=reference,
    )
    delays = {
        name: _delay(state, source, reference, shift=shift, seed=seed)
        for name, shift in SHIFTS.items()
    }
    kept.write_text(json.dumps(delays), encoding="utf-8")
    print(f"bench: drift: {glosses} glosses, {seed}: {delays}", file=sys.stderr, flush=True)
    return delays


def _delay(
    state: DriftState, source: Pools, reference: Reference, *, shift: tuple[str, float], seed: int
) -> int | None:
    new, share = shift
    chance = np.random.default_rng([SEED, 2, seed])
    # At another hour of the day in each run.
    begin = BEGIN + timedelta(days=DAYS_BEFORE, hours=5 * seed)
    blocks = traffic(source, chance, begin=begin, new=new, share=share)
    for number, block in enumerate(_blocks(blocks, _MOST_BLOCKS), start=1):
        state = observe(state, [block], reference=reference)
        if report(state, reference=reference).drifted:
            return number * REQUESTS_OF_BLOCK
    return None


def _blocks(usual: Iterator[tuple[datetime, Counts]], num: int) -> Iterator[Block]:
    for at, counts in islice(usual, num):
        yield at, sketch_of(counts, num=REQUESTS_OF_BLOCK)


@cache
def _pools(glosses: int) -> Pools:
    return pools(glosses=glosses)


def _throughput() -> float:
    source = _pools(LONG)
    usual = traffic(source, np.random.default_rng(SEED), begin=BEGIN)
    blocks, reference = list(_blocks(usual, _TIMED_BLOCKS)), source.reference(random.Random(1))
    begin = time.process_time()
    observe(DriftState(), blocks, reference=reference)
    return round(_TIMED_BLOCKS / (time.process_time() - begin), 1)


def _alarms(counts: list[int]) -> dict[str, Any]:
    return {
        "runs": len(counts),
        "runsWithAlarm": sum(count > 0 for count in counts),
        "medianAlarms": statistics.median(counts),
    }


def _delays(delays: list[int | None]) -> dict[str, Any]:
    known = sorted(delay if delay is not None else sys.maxsize for delay in delays)
    median = known[len(known) // 2]
    return {
        "n": len(delays),
        "missed": delays.count(None),
        "median": None if median == sys.maxsize else median,
        "worst": None if known[-1] == sys.maxsize else known[-1],
    }
